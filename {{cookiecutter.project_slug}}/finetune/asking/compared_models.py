"""The further models that `evaluate.compare` asks the test questions: checkpoints, and the models of commits."""

from collections.abc import Sequence

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.records.training import ModelRecord
from finetune.project.history import commit_of, is_pinned, is_revision, record_at

CHECKPOINTS = "checkpoints"


def compared_models(params: Params, names: Sequence[str], record: ModelRecord, say: Say) -> dict[str, str]:
    """Return the model IDs by `checkpoints.<step>` and `compared.<name>`; the prefix keeps them from colliding.

    The name `checkpoints` means the job's checkpoints except the chosen one; every other name is a revision of
    Git. Raises FinetuneError for a revision without a fine-tune, for one of another provider, and for a revision
    called `checkpoints`. `say` gets a warning for a name that moves, such as a branch.
    """
    found: dict[str, str] = {}
    for name in names:
        if name == CHECKPOINTS:
            if is_revision(name):
                raise FinetuneError(
                    "evaluate.compare: 'checkpoints' is the job's checkpoints and also a revision of this repository.",
                    "Name the revision in full, such as tags/checkpoints, or rename it.",
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
        if not is_pinned(name):
            say(
                f"warning: evaluate.compare: {name!r} is commit {commit_of(name)} now. When it names another one, DVC"
                " does not ask again. Name a tag or a hash instead."
            )
        found[f"compared.{name}"] = other["model"]
    return found


def commit_compared(key: str) -> dict[str, str]:
    """Return the commit and the base of a compared model as part of a row; {} for other models."""
    kind, _, name = key.partition(".")
    if kind != "compared":
        return {}
    base = record_at(name).get("base")
    return {"commit": commit_of(name)} | ({"base": base} if base else {})


def is_compared(key: str, names: Sequence[str]) -> bool:
    """Return whether the names of `evaluate.compare` ask for the model of this key."""
    kind, _, name = key.partition(".")
    return name in names if kind == "compared" else kind == CHECKPOINTS and CHECKPOINTS in names
