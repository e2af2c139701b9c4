"""Check the gates of `evaluate.require`, such as {tuned.accuracy: ">= 0.8", lift.p_value: "<= 0.05"}."""

import operator
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.flatten import flatten

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}
CONDITION = re.compile(r"\s*(>=|<=|==|>|<)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*")


SUGGESTED = 5  # names of metrics that an error lists


def parse_condition(name: str, condition: str) -> tuple[str, float]:
    """Return the operator and the number of a condition. Raises FinetuneError if it is invalid."""
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise FinetuneError(
            f"evaluate.require: {name}: {condition!r} is not a valid condition.", 'Write one such as ">= 0.8".'
        )
    return match[1], float(match[2])


def unmet(require: Mapping[str, str], metrics: Mapping[str, Any]) -> list[str]:
    """Return the conditions that the metrics do not meet, each with the value that was found.

    Metrics are named as `dvc metrics show` names them. Raises FinetuneError for an invalid condition, and for a name
    that is no metric.
    """
    values = {name: value for name, value in flatten(metrics).items() if isinstance(value, (int, float))}
    failed = []
    for name, condition in require.items():
        sign, limit = parse_condition(name, condition)
        if name not in values:
            like = get_close_matches(name, values, SUGGESTED, 0) or sorted(values)
            raise FinetuneError(
                f"evaluate.require: there is no metric {name!r}.",
                f"Similar metrics are {', '.join(like)}. List all with: dvc metrics show",
            )
        if not OPERATORS[sign](values[name], limit):
            failed.append(f"{name} is {values[name]:g}, not {sign} {limit:g}")
    return failed
