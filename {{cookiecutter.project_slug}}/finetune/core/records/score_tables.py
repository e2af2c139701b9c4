"""The types of the rows of the tables in reports/ that show scores."""

from typing_extensions import TypedDict


class MetricRow(TypedDict):
    """One row of reports/metrics.csv: a metric of a model, and how much better or worse the tuned model is in it."""

    metric: str
    model: str
    value: float
    low: float
    high: float
    difference: float | str  # of tuned to the model; "" for tuned
    difference_low: float | str
    difference_high: float | str
    p_value: float | str


class PairRow(TypedDict):
    """One row of reports/pairs.csv: how much better a model is than another."""

    model: str
    against: str
    n: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float  # corrected for the number of pairs in the table, by Holm's method
    test: str
    verdict: str


class GroupRow(TypedDict):
    """One row of reports/groups.csv: a model's score over the test rows of a group."""

    group: str
    model: str
    n: int
    score: float
    low: float
    high: float


class RowToRead(TypedDict):
    """One row of reports/rows.csv: a test row that a person should read."""

    kind: str  # lost, won or wrong
    asked: str
    expected: str
    base: str
    tuned: str
    base_score: float
    tuned_score: float
    confidence: float | str  # "" without log-probabilities
