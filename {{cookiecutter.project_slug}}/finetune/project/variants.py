"""The records of variants: trainings of this project with another seed or with fewer rows.

Each has a file in models/variants, in Git. It is written as soon as the job exists, and completed after the training
and after the answers. So an interrupted run continues, and `finetune files clean` deletes nothing that is recorded.
"""

from pathlib import Path

from finetune.core.disk import write_json
from finetune.core.paths import VARIANTS
from finetune.core.records.variants import VariantRecord
from finetune.project.history import committed, git


def path_of(record: VariantRecord) -> Path:
    """Return the path of a variant's record. The fingerprint in it makes it unique."""
    return VARIANTS / f"seed{record['seed']}-rows{record['rows']}-{record['fingerprint'][:12]}.json"


def write_variant(record: VariantRecord) -> None:
    write_json(path_of(record), record)


def committed_variants() -> list[VariantRecord]:
    """Return the records of all commits of all branches, tags and experiments."""
    paths = set(git("log", "--all", "--format=", "--name-only", "--relative", "--", VARIANTS.as_posix()).split("\n"))
    return [
        record for path in sorted(paths) if path.endswith(".json") for record in committed(Path(path), VariantRecord)
    ]
