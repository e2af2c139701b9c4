"""What params.yaml may not ask for together with train.method dpo."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.core.params import Params


def conflict_of_method(params: "Params") -> tuple[str, str] | None:
    """Return what does not fit train.method, and what to do about it; None if all does."""
    data, train = params.data, params.train
    if train.method != "dpo":
        if train.beta != "auto":
            return "train.beta is for train.method dpo", "Set train.beta to auto, or remove it."
        return None
    unusable = {
        "data.prompt": data.prompt,
        "data.labels": data.labels,
        "data.codes": data.codes,
        "data.abstain": data.abstain,
        "data.turns each": data.turns == "each",
        "data.target completion": data.target == "completion",
        "train.replay": train.replay,
    }
    found = [name for name, value in unusable.items() if value]
    if not found:
        return None
    return f"train.method dpo cannot be used with {', '.join(found)}", "Remove the one or the other in params.yaml."
