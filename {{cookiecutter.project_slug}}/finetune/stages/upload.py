"""upload: send the training and validation files to the provider, each content once."""

import datetime

from finetune.core.damage import how_to_restore
from finetune.core.disk import each_jsonl, read_if_there, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import CHECKED, FILES, PREPARED, REPLAY, VALIDATION_REPORT
from finetune.core.records.checks import ValidationReport
from finetune.core.records.settings import CheckedSplits
from finetune.core.records.training import FilesRecord
from finetune.pricing.end_dates import date_warnings, refuse_after_shutdown
from finetune.project.budget import refuse_over_budget, refuse_over_total
from finetune.project.job_request import fingerprint_now
from finetune.project.uploads import upload_once
from finetune.provider.capabilities import refuse_unsupported
from finetune.provider.connect import connect
from finetune.provider.training_file import replay_file
from finetune.terminal.progress import progress_bar, say


def run(params: Params) -> FilesRecord:
    """Write and return the record of file IDs; an empty validation split is left out.

    The training file has the rows of train.replay too.
    """
    refuse_unsupported(params)
    refuse_over_budget(params)
    today = datetime.date.today()
    for warning in date_warnings(params, today):
        say(f"warning: {warning}")
    paths = {split: PREPARED / f"{split}.jsonl" for split in ("train", "valid")}
    for path in paths.values():
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", "Create it with: dvc repro prepare")
    refuse_damaged()

    def may_create() -> None:
        refuse_after_shutdown(params, today)
        refuse_over_total(params, connection=connection, fingerprints=[fingerprint_now(params) or ""])

    record: FilesRecord = {}
    with connect(params.provider) as connection, progress_bar("upload") as progress:
        for split, path in paths.items():
            if path.stat().st_size:
                replay = replay_file() if split == "train" else None
                record[split] = upload_once(connection, path, replay, may_create, progress, say)
    write_json(FILES, record)
    return record


def refuse_damaged() -> None:
    """Raise FinetuneError for a prepared file that is damaged, or has other rows than `validate` has checked.

    A file that has lost rows can be trained on, and would be paid.
    """
    # Earlier versions wrote neither the one nor the rows of replay in the other.
    checked: CheckedSplits = read_if_there(CHECKED, "validate", CheckedSplits)
    report: ValidationReport = read_if_there(VALIDATION_REPORT, "validate", ValidationReport)
    examples = checked["examples"] if checked else None
    replay = report["replay"]["rows"] if "replay" in report else None
    for path, made_by, expected in (
        (PREPARED / "train.jsonl", "prepare", examples and examples.get("train", 0)),
        (PREPARED / "valid.jsonl", "prepare", examples and examples.get("valid", 0)),
        (REPLAY, "validate", replay),
    ):
        rows = sum(1 for _ in each_jsonl(path, made_by)) if path.exists() else 0
        if expected is not None and rows != expected:
            what = f"{path} has {rows:,} rows, and `validate` has checked {expected:,}."
            raise FinetuneError(what, how_to_restore(path, made_by))
