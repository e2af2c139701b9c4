"""The comparison of every two models on the same rows, from reports/pairs.csv."""

from collections.abc import Sequence
from typing import NamedTuple

from finetune.report.model_metrics import model_label
from finetune.report.stage_outputs import Row


class Pair(NamedTuple):
    """The difference of `model` minus another model in the first metric, with its 95 % interval."""

    label: str
    model: str
    difference: float
    low: float
    high: float
    p_value: float
    verdict: str  # without the figures


def read_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Return the pairs of a table."""
    return [
        Pair(
            f"{model_label(row['model'])} − {model_label(row['against'])}",
            row["model"],
            float(row["difference"]),
            float(row["low"]),
            float(row["high"]),
            float(row["p_value"]),
            without_figures(row["verdict"]),
        )
        for row in rows
    ]


def without_figures(verdict: str) -> str:
    """Return a verdict without the figures in brackets, which have columns of their own."""
    clause, bracket, rest = verdict.partition(" (")
    return clause + rest.partition(")")[2] if bracket else clause
