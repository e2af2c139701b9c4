"""Which prepared data are preferences."""

from collections.abc import Mapping
from typing import Any


def holds_preferences(prepared: Mapping[str, Any]) -> bool:
    """Return whether the prepared data are preferences, by the report of `prepare`."""
    source = prepared.get("source") or {}
    notes = [source, *source.values()]  # of one file, or of each split's
    return any(isinstance(note, Mapping) and note.get("rows") == "preference" for note in notes)
