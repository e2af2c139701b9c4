"""How much each row contributes to a metric that is no mean of rows, such as macro F1.

The metric is computed again without each row. A row's value is the metric plus how much the metric falls without the
row, times the number of the other rows; so the mean of the values is the metric, and their variance is the jackknife's
(Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11). Two models' values on the same rows are
compared like any scores.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Metrics = dict[str, Numbers]
AT_ONCE = 2_000_000  # counts in memory


def class_metric_values(
    expected: Sequence[str], predicted: Sequence[str], labels: Sequence[str], beta: float | None
) -> Metrics:
    """Return the values of each row for each metric of classes, as scoring/classify.py defines them.

    Rows with the same expected and the same predicted class have the same values, so each such pair is computed once.
    """
    place = {label: number for number, label in enumerate(dict.fromkeys([*labels, *predicted]))}
    truth, guess = (np.array([place[name] for name in names]) for names in (expected, predicted))
    pairs, kind, times = np.unique(truth * len(place) + guess, return_inverse=True, return_counts=True)
    known, size = len(labels), len(place)
    actual, answered = np.bincount(truth, minlength=size), np.bincount(guess, minlength=size)
    right = np.bincount(truth[truth == guess], minlength=size)
    seen = np.flatnonzero(actual[:known] > 0)
    averaged = np.array([1]) if known == 2 else seen

    def metrics(right: Any, actual: Any, answered: Any) -> Metrics:
        f1 = f_measure(right, actual, answered, 1.0)
        found = {
            "accuracy": ratio(right.sum(-1), actual.sum(-1)),
            "macro_f1": f1[..., seen].mean(-1),
            "weighted_f1": ratio((f1 * actual[..., :known]).sum(-1), actual[..., :known].sum(-1)),
            "precision": ratio(right, answered[..., :known])[..., averaged].mean(-1),
            "recall": ratio(right, actual[..., :known])[..., averaged].mean(-1),
        }
        if beta is not None:
            found["f_beta"] = f_measure(right, actual, answered, beta)[..., averaged].mean(-1)
        return found

    def f_measure(right: Any, actual: Any, answered: Any, beta: float) -> Any:
        return ratio((1 + beta**2) * right, beta**2 * actual[..., :known] + answered[..., :known])

    def without(some: NDArray[Any]) -> Metrics:
        rows = np.arange(len(some))
        counts = []
        for total, at, less in (
            (right[:known], some // size % known, some // size == some % size),
            (actual, some // size, True),
            (answered, some % size, True),
        ):
            counts.append(np.tile(total, (len(some), 1)))
            counts[-1][rows, at] -= less
        return metrics(*counts)

    whole = metrics(right[:known], actual, answered)
    step = max(1, AT_ONCE // size)
    parts = [without(pairs[start : start + step]) for start in range(0, len(pairs), step)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    return {name: row_values(whole[name], found[name], times)[kind] for name in whole}


def ratio(part: Any, whole: Any) -> Any:
    """Return a quotient, 0 where its divisor is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def row_values(whole: Any, without: Numbers, times: NDArray[np.int64]) -> Numbers:
    """Return the values of rows of some kinds, from the metric without one of each kind, and the rows of each kind."""
    n = int(times.sum())
    mean = (without * times).sum() / n
    values: Numbers = whole + (n - 1) * (mean - without)
    return values


def metric_values(sums: Numbers, metric: Callable[[Numbers], Numbers]) -> Numbers:
    """Return the values of each row for a metric that is computed from sums over rows.

    `sums` has a line for each row; `metric` takes lines of totals.
    """
    total = sums.sum(0)
    return row_values(metric(total[None])[0], metric(total - sums), np.ones(len(sums), np.int64))
