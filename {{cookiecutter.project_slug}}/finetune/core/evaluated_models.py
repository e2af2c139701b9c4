"""Find and set the entry of a model in an evaluation.

A model is called `base`, `few_shot`, `rescued`, `tuned`, `floors.<name>`, `checkpoints.<step>` or `compared.<name>`.
The prefix keeps names that a user chooses apart from ours: a tag called `base` is `compared.base`. Names may contain
dots.
"""

from collections.abc import Mapping
from typing import Any

GROUPS = ("floors", "checkpoints", "compared")
RESCUED = "rescued"  # a model that is not asked: its answers were recorded before it was shut down
FLOORS = {  # what costs nothing, see scoring/floors.py
    "majority": "the most frequent class",
    "tfidf": "TF-IDF with logistic regression",
    "limited": "the base model, limited to the classes",
    "nearest": "the nearest training example",
    "copy": "a copy of the question",
}
RIVALS = ("base", "few_shot", *(f"floors.{name}" for name in FLOORS))  # without other fine-tunes of this project


def is_floor(model: str) -> bool:
    """Return whether answers are those of a floor, and not of a model that was asked."""
    return model.startswith("floors.")


def is_asked(model: str) -> bool:
    """Return whether the project asks a model: it is no floor, and its answers are not recorded ones."""
    return not is_floor(model) and model != RESCUED


def floor_title(model: str) -> str:
    """Return what a floor answers, such as "the most frequent class"; another name is returned as it is."""
    return FLOORS.get(model.removeprefix("floors."), model)


def set_model(report: dict[str, Any], model: str, value: Any) -> None:
    """Set a model's part of a report: at the top, or in `checkpoints` or `compared`."""
    group, dot, name = model.partition(".")
    if dot:
        report.setdefault(group, {})[name] = value
    else:
        report[model] = value


def get_model(report: Mapping[str, Any], model: str) -> Any:
    """Return a model's part of a report."""
    group, dot, name = model.partition(".")
    return report[group][name] if dot else report[model]


def models_in(report: Mapping[str, Any]) -> list[str]:
    """Return the models that a report has: base first, tuned last, the others in natural order."""
    return [
        *(name for name in ("base", "few_shot", RESCUED) if name in report),
        *(f"{group}.{name}" for group in GROUPS for name in sorted(report.get(group, {}), key=natural_order)),
        "tuned",
    ]


def natural_order(name: str) -> tuple[str, int]:
    """Return a key that sorts v9 before v10."""
    digits = name[len(name.rstrip("0123456789")) :]
    return name.removesuffix(digits), int(digits or 0)
