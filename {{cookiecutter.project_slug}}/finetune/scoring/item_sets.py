"""Compare sets of items: F1 of each row, averages over all rows, and the values of each row for each average."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.scoring.design_effect import Values
from finetune.scoring.jackknife import group_values, metric_values, ratio

Sets = Sequence[set[str]]


def set_scores(
    truths: Sets, guesses: Sets, groups: Sequence[int] | None = None
) -> tuple[dict[str, Values], dict[str, float]]:
    """Compute the values of each row, whose mean is the metric, and the metrics: F1 of rows, and scikit-learn's.

    Two empty sets are the same: F1 is 1. `groups` has the group of each row, None if rows are independent.
    """
    from sklearn.metrics import f1_score, precision_recall_fscore_support
    from sklearn.preprocessing import MultiLabelBinarizer

    every = sorted(set().union(*truths, *guesses))
    if not every:
        names = ("f1", "f1_micro", "f1_macro", "precision", "recall")
        return {name: [1.0] * len(truths) for name in names}, dict.fromkeys(names, 1.0)
    # One more column, which no row has: with a single column, scikit-learn would take 0 for a class.
    matrix = MultiLabelBinarizer(classes=[*every, None], sparse_output=True)
    truth, guess = matrix.fit_transform(truths), matrix.transform(guesses)
    settings: dict[str, Any] = {"labels": list(range(len(every))), "zero_division": 0.0}
    precision, recall, micro, _ = precision_recall_fscore_support(truth, guess, average="micro", **settings)
    macro = f1_score(truth, guess, average="macro", **settings)
    values = values_of(truths, guesses, groups)
    return values, {
        "f1": round(sum(values["f1"]) / len(truths), 4),
        "f1_micro": round(float(micro), 4),
        "f1_macro": round(float(macro), 4),
        "precision": round(float(precision), 4),
        "recall": round(float(recall), 4),
    }


def values_of(truths: Sets, guesses: Sets, groups: Sequence[int] | None = None) -> dict[str, Values]:
    """Return the values of each row for each metric (jackknife.py)."""
    rows = [
        1.0 if not a and not b else 2 * len(a & b) / (len(a) + len(b)) for a, b in zip(truths, guesses, strict=True)
    ]
    sums = np.array([[len(a & b), len(a), len(b)] for a, b in zip(truths, guesses, strict=True)], float)
    return {
        "f1": rows,
        "f1_micro": metric_values(sums, lambda one: ratio(2 * one[:, 0], one[:, 1] + one[:, 2])),
        "f1_macro": macro_values(truths, guesses, groups),
        "precision": metric_values(sums, lambda one: ratio(one[:, 0], one[:, 2])),
        "recall": metric_values(sums, lambda one: ratio(one[:, 0], one[:, 1])),
    }


def macro_values(truths: Sets, guesses: Sets, groups: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return the values of each row for the mean F1 of the items.

    Without a row, or without the rows of a group, only the F1 of their items change.
    """
    right, either = Counter[str](), Counter[str]()
    for truth, guess in zip(truths, guesses, strict=True):
        count_items(right, either, truth, guess)
    whole = sum(2 * right[item] / total for item, total in either.items()) / len(either)
    units = range(len(truths)) if groups is None else groups
    _, place, sizes = np.unique(units, return_inverse=True, return_counts=True)
    falls = []
    for _, rows in groupby(np.argsort(place, kind="stable").tolist(), key=place.__getitem__):
        hits, occurring = Counter[str](), Counter[str]()
        for row in rows:
            count_items(hits, occurring, truths[row], guesses[row])
        falls.append(sum(fall(right[item], hits[item], either[item], count) for item, count in occurring.items()))
    return group_values(whole, whole - np.array(falls) / len(either), sizes)[place]


def count_items(right: Counter[str], either: Counter[str], truth: set[str], guess: set[str]) -> None:
    """Count the items of a row: those that are found, and those of both sides together."""
    right.update(truth & guess)
    either.update(truth)
    either.update(guess)


def fall(right: int, hits: int, either: int, count: int) -> float:
    """Return how much the F1 of an item falls without rows that have `hits` of `right` and `count` of `either`."""
    rest = either - count
    return 2 * right / either - (2 * (right - hits) / rest if rest else 0.0)
