"""Check the gates of `evaluate.require`, such as {tuned.accuracy: ">= 0.8", lift.accuracy_low: "> 0"}."""

import operator
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.flatten import flatten
from finetune.scoring.metric_names import general_name

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}
CONDITION = re.compile(r"\s*(>=|<=|==|>|<)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*")
EVALUATE = "evaluate.require"  # the section of params.yaml whose gates these are, unless it is another
SUGGESTED = 5  # names of metrics that an error lists
P_VALUE = re.compile(r"(?:p_value|p_holm)$")


def parse_condition(name: str, condition: str, section: str = EVALUATE) -> tuple[str, float]:
    """Return the operator and the number of a condition. Raises FinetuneError if it is invalid."""
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise FinetuneError(
            f"{section}: {name}: {condition!r} is not a valid condition.", 'Write one such as ">= 0.8".'
        )
    return match[1], float(match[2])


def check_gates(require: Mapping[str, str], names: Collection[str], section: str = EVALUATE) -> list[str]:
    """Return warnings of gates that say less than they seem to; `names` are those of all metrics (metric_names.py).

    Raises FinetuneError for an invalid condition, and for a name that is no metric.
    """
    for name, condition in require.items():
        parse_condition(name, condition, section)
        if general_name(name) not in names:
            raise no_metric(name, names, section)
    return [
        f"{section}: {name} says that two models differ, not which one is better."
        f" Require also {better_name(name, names)}."
        for name in require
        if P_VALUE.search(name) and not any(shows_direction(other, require[other], name) for other in require)
    ]


def no_metric(name: str, names: Collection[str], section: str) -> FinetuneError:
    like = get_close_matches(name, names, SUGGESTED, 0)
    return FinetuneError(
        f"{section}: there is no metric {name!r}.",
        f"Similar metrics are {', '.join(like)}. After an evaluation, `dvc metrics show` lists all."
        if like
        else f"List the formats of {section.partition('.')[0]} first.",
    )


def better_name(p_value: str, names: Collection[str]) -> str:
    """Return the gate that says that the difference with this p-value is an improvement."""
    stem = P_VALUE.sub("", p_value)
    general = general_name(stem)
    low = next((name for name in sorted(names) if name.startswith(general) and name.endswith("low")), "")
    return f'{stem}{low.removeprefix(general)}: "> 0"' if low else f"{stem}wins, and fewer losses"


def shows_direction(name: str, condition: str, p_value: str) -> bool:
    """Return whether a gate says that the difference with this p-value is above 0."""
    sign, limit = parse_condition(name, condition)
    return name.startswith(P_VALUE.sub("", p_value)) and not P_VALUE.search(name) and sign in (">", ">=") and limit >= 0


def results_of(require: Mapping[str, str], metrics: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the conditions that the metrics meet and those that they do not, each in words with the value.

    Metrics are named as `dvc metrics show` names them. A metric without a value, such as a log loss without
    log-probabilities, meets no condition. Raises FinetuneError for an invalid condition.
    """
    values = {name: value for name, value in flatten(metrics).items() if isinstance(value, (int, float))}
    met, failed = [], []
    for name, condition in require.items():
        sign, limit = parse_condition(name, condition)
        if name not in values:
            failed.append(f"{name} has no value, so it is not {sign} {limit:g}")
        elif OPERATORS[sign](values[name], limit):
            met.append(f"{name} is {values[name]:g}, {sign} {limit:g}")
        else:
            failed.append(f"{name} is {values[name]:g}, not {sign} {limit:g}")
    return met, failed
