"""Preferences: what params.yaml may not ask for together with train.method dpo, and which data have them."""

from collections.abc import Mapping
from typing import Any


def conflict_of_method(data: Any, train: Any) -> tuple[str, str] | None:
    """Return what in the sections `data` and `train` does not fit train.method, and what to do; None if all does."""
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


def holds_preferences(prepared: Mapping[str, Any]) -> bool:
    """Return whether the prepared data are preferences, by the report of `prepare`."""
    source = prepared.get("source") or {}
    notes = [source, *source.values()]  # of one file, or of each split's
    return any(isinstance(note, Mapping) and note.get("rows") == "preference" for note in notes)
