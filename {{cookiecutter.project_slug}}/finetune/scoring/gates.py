"""What a model must reach: `evaluate.require`, such as {tuned.accuracy: ">= 0.8", lift.p_value: "<= 0.05"}."""

import operator
import re
from collections.abc import Mapping
from typing import Any

from finetune.core.errors import FinetuneError

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}
CONDITION = re.compile(r"\s*(>=|<=|==|>|<)\s*(-?[\d.]+(?:e-?\d+)?)\s*")


def unmet(require: Mapping[str, str], metrics: Mapping[str, Any]) -> list[str]:
    """The conditions that the metrics do not meet, each as a clause with the figure that was found.

    Raises FinetuneError for a condition that cannot be read or names no metric.
    """
    failed = []
    for key, condition in require.items():
        match = CONDITION.fullmatch(condition)
        if match is None:
            raise FinetuneError(
                f"evaluate.require: {key}: {condition!r} is no condition.", 'Write one such as ">= 0.8".'
            )
        found = value_of(metrics, key)
        if not isinstance(found, (int, float)):
            known = ", ".join(sorted(numbers(metrics)))
            raise FinetuneError(f"evaluate.require: there is no metric {key!r}.", f"Those that are: {known}.")
        if not OPERATORS[match[1]](found, float(match[2])):
            failed.append(f"{key} is {found:g}, not {match[1]} {match[2]}")
    return failed


def value_of(metrics: Mapping[str, Any], dotted: str) -> Any:
    value: Any = metrics
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def numbers(metrics: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of all figures."""
    found = []
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found += numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)):
            found.append(f"{prefix}{key}")
    return found
