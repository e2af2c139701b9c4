"""The further models that `evaluate.compare` asks the test questions: checkpoints, and the models of commits."""

from collections.abc import Sequence

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.records import ModelRecord
from finetune.project.history import is_revision, record_at

CHECKPOINTS = "checkpoints"


def compared_models(params: Params, names: Sequence[str], record: ModelRecord) -> dict[str, str]:
    """Return the model IDs by `checkpoints.<step>` and `compared.<name>`; the prefix keeps them from colliding.

    The name `checkpoints` means the job's checkpoints except the chosen one; every other name is a revision of
    Git. Raises FinetuneError for a revision without a fine-tune, for one of another provider, and for a revision
    called `checkpoints`.
    """
    found: dict[str, str] = {}
    for name in names:
        if name == CHECKPOINTS:
            if is_revision(name):
                raise FinetuneError(
                    "evaluate.compare: 'checkpoints' is the job's checkpoints and also a revision of this repository.",
                    "Name the revision in full, such as tags/checkpoints or heads/checkpoints, or rename it.",
                )
            # The provider may report a step as 11.0.
            steps = {f"checkpoints.{one['step']:g}": one["model"] for one in record["checkpoints"]}
            found |= {key: model for key, model in steps.items() if model != record["model"]}
            continue
        other, provider = record_at(name), params.provider.name
        if other["provider"] != provider:
            raise FinetuneError(
                f"evaluate.compare: the model of {name!r} is at {other['provider']!r}; provider.name is {provider!r}.",
                f"Remove it, and compare the predictions of the two commits: finetune compare {name}",
            )
        found[f"compared.{name}"] = other["model"]
    return found
