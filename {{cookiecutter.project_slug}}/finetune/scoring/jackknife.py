"""How much each row contributes to a metric that is no mean of rows, such as macro F1.

The metric is computed again without each row. A row's value is the metric plus how much the metric falls without the
row, times the number of the other rows; so the mean of the values is the metric, and their variance is the jackknife's
(Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11). Two models' values on the same rows are
compared like any scores.

Rows of one group are left out together: without one row of a class that only one group has, its F1 hardly changes, so
rows alone would not show how much depends on the group.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Metrics = dict[str, Numbers]
AT_ONCE = 2_000_000  # counts in memory


def class_metric_values(
    expected: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    beta: float | None,
    groups: Sequence[int] | None = None,
) -> Metrics:
    """Return the values of each row for each metric of classes, as scoring/classify.py defines them.

    `groups` has the group of each row, None if rows are independent. Without groups of several rows, those with the
    same expected and the same predicted class have the same values, so each such pair is computed once.
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

    def without_groups(start: int, end: int) -> Metrics:
        here = (place_of_group >= start) & (place_of_group < end)
        at, one, other = place_of_group[here] - start, truth[here], guess[here]
        hits = one == other

        def left(total: NDArray[Any], at: NDArray[Any], names: NDArray[Any]) -> NDArray[Any]:
            shape = (end - start, len(total))
            return total - np.bincount(at * shape[1] + names, minlength=shape[0] * shape[1]).reshape(shape)

        return metrics(left(right[:known], at[hits], one[hits]), left(actual, at, one), left(answered, at, other))

    whole = metrics(right[:known], actual, answered)
    step = max(1, AT_ONCE // size)
    if groups is not None and len(set(groups)) < len(truth):
        _, place_of_group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        count = len(sizes)
        parts = [without_groups(start, min(count, start + step)) for start in range(0, count, step)]
        rest = {name: np.concatenate([part[name] for part in parts]) for name in whole}
        return {name: group_values(whole[name], rest[name], sizes)[place_of_group] for name in whole}
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


def group_values(whole: Any, without: Numbers, sizes: NDArray[np.int64]) -> Numbers:
    """Return the values of the rows of each group, from the metric without each group and the rows of each.

    Their sums over groups vary as the jackknife of groups says; with groups of one row they are `row_values`.
    """
    count = len(sizes)
    values: Numbers = whole + sizes.sum() * (count - 1) / count * (without.mean() - without) / sizes
    return values


def metric_values(sums: Numbers, metric: Callable[[Numbers], Numbers]) -> Numbers:
    """Return the values of each row for a metric that is computed from sums over rows.

    `sums` has a line for each row; `metric` takes lines of totals.
    """
    total = sums.sum(0)
    return row_values(metric(total[None])[0], metric(total - sums), np.ones(len(sums), np.int64))
