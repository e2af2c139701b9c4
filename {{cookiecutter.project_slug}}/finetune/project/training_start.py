"""Find the model that a fine-tune starts from: a base model, a fine-tuned one, or the model of an earlier commit."""

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.pricing.catalogue import is_fine_tuned
from finetune.project.history import is_pinned, record_at


def start_of(params: Params) -> tuple[str, list[str]]:
    """Return the model to train from, and the fine-tuned models that led to it, the first one first.

    Raises FinetuneError if `train.from` is not a tag or hash of a commit with a record, or if that has another base or
    provider.
    """
    revision = params.train.continue_from
    if revision is None:
        base = params.train.base
        return base, [base] if is_fine_tuned(base) else []
    record = record_at(revision)
    if not is_pinned(revision):
        raise FinetuneError(
            f"train.from is {revision!r}, which names another commit later, so the same parameters would train again.",
            f"Name a tag, or the commit as it is now: git rev-parse {revision}",
        )
    for key, parameter, ours in (
        ("provider", "provider.name", params.provider.name),
        ("base", "train.base", params.train.base),
    ):
        theirs = record.get(key)
        if theirs != ours:
            raise FinetuneError(
                f"train.from is {revision!r}, whose model has the {key} {theirs!r}, not {ours!r}.",
                f"Set {parameter} to {theirs!r}, or choose another commit.",
            )
    return record["model"], [*record.get("lineage", []), record["model"]]
