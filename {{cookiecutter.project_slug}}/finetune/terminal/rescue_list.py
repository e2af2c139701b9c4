"""What `finetune rescue list` says of each fine-tuned model, and of all."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.counted import counted

SHOWN = {"n_epochs": "epochs ", "batch_size": "batch ", "learning_rate_multiplier": "learning rate ×"}


def row_of(one: Mapping[str, Any], deploys: bool) -> list[str]:
    """Return the row of a fine-tuned model. Where models must be deployed, those that are not listed may be there."""
    days = one["days_left"]
    left = "unknown" if days is None else str(max(days, 0))
    if not one["answers"] and not deploys:
        left = "gone"
    values = [f"{name}{one['hyperparameters'][key]}" for key, name in SHOWN.items() if key in one["hyperparameters"]]
    saved = {None: "no", 0: "files"}.get(one["saved_answers"], f"{one['saved_answers']} answers")
    data = "there" if one["training_file_is_there"] else "deleted"
    return [left, f"{one['model']}\n{', '.join([one['job'], *values])}", data, saved]


def summary(found: Sequence[Mapping[str, Any]], deploys: bool) -> str:
    """Return how many models there are, how many are saved, and when the first of them end."""
    saved = sum(one["saved_answers"] is not None for one in found)
    text = f"{counted(len(found), 'model')}, {saved} of them saved in data/rescued."
    if coming := [one["shutdown"] for one in found if (one["days_left"] or 0) > 0]:
        text += f" {coming.count(coming[0])} will be shut down on {coming[0]}."
    return text + ("\nHere a model answers only when it is deployed." if deploys else "")
