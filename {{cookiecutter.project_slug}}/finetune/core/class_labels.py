"""The classes of a project: those of params.yaml, or those that `prepare` found."""

from collections.abc import Mapping
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.paths import PREPARED_REPORT
from finetune.core.sections.data import Data


def labels_of(data: Data, prepared: Mapping[str, Any]) -> list[str]:
    """Return the classes in the order of tables; [] where params.yaml lists none. `prepared` is prepare.json."""
    if data.labels != "auto":
        return data.labels
    if "labels" not in prepared:
        raise FinetuneError(
            f"data.labels is auto, but {PREPARED_REPORT} has no labels: params.yaml changed after it was written.",
            "Run: dvc repro prepare",
        )
    return list(prepared["labels"])
