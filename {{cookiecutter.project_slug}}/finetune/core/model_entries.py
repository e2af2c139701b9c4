"""Where a model stands in an evaluation.

A model is called `base`, `few_shot`, `tuned`, `checkpoints.<step>` or `compared.<name>`. The prefix keeps what a user
names apart from our own names: a tag called `base` is `compared.base`. Names may contain dots.
"""

from collections.abc import Mapping
from typing import Any

GROUPS = ("checkpoints", "compared")


def put(report: dict[str, Any], model: str, value: Any) -> None:
    """Set a model's entry: at the top, or in `checkpoints` or `compared`."""
    group, dot, name = model.partition(".")
    if dot:
        report.setdefault(group, {})[name] = value
    else:
        report[model] = value


def entry(report: Mapping[str, Any], model: str) -> Any:
    """Return a model's entry."""
    group, dot, name = model.partition(".")
    return report[group][name] if dot else report[model]


def models_in(report: Mapping[str, Any]) -> list[str]:
    """Return the models that a report has: base first, tuned last, checkpoints by their step."""
    checkpoints = sorted(report.get("checkpoints", {}), key=lambda step: (len(step), step))
    return [
        *(name for name in ("base", "few_shot") if name in report),
        *(f"checkpoints.{step}" for step in checkpoints),
        *(f"compared.{name}" for name in report.get("compared", {})),
        *(name for name in ("tuned",) if name in report),
    ]
