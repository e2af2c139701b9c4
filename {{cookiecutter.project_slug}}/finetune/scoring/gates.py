"""Check the gates of `evaluate.require`, such as {tuned.accuracy: ">= 0.8", lift.p_value: "<= 0.05"}."""

import operator
import re
from collections.abc import Mapping
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.flatten import flatten

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}
CONDITION = re.compile(r"\s*(>=|<=|==|>|<)\s*(-?[\d.]+(?:e-?\d+)?)\s*")


def unmet(require: Mapping[str, str], metrics: Mapping[str, Any]) -> list[str]:
    """Return the conditions that the metrics do not meet, each with the value that was found.

    Metrics are named as `dvc metrics show` names them. Raises FinetuneError for an invalid condition, and for a name
    that is no metric.
    """
    values = {name: value for name, value in flatten(metrics).items() if isinstance(value, (int, float))}
    failed = []
    for name, condition in require.items():
        match = CONDITION.fullmatch(condition)
        if match is None:
            raise FinetuneError(
                f"evaluate.require: {name}: {condition!r} is not a valid condition.", 'Write one such as ">= 0.8".'
            )
        if name not in values:
            raise FinetuneError(
                f"evaluate.require: there is no metric {name!r}.", f"The metrics are: {', '.join(sorted(values))}."
            )
        if not OPERATORS[match[1]](values[name], float(match[2])):
            failed.append(f"{name} is {values[name]:g}, not {match[1]} {match[2]}")
    return failed
