"""The class probabilities of rows as arrays (rows, classes)."""

from collections.abc import Sequence

import numpy as np

from finetune.scoring.jackknife import Numbers
from finetune.scoring.mean_interval import rounded
from finetune.scoring.ranking_values import Truth


def matrix(probabilities: Sequence[Sequence[float]], labels: Sequence[str]) -> tuple[Numbers, Truth]:
    """Return the probabilities (rows, classes), and which rows have log-probabilities (rows,)."""
    given = np.asarray(probabilities, float).reshape(len(probabilities), len(labels))
    return given, np.isfinite(given).all(axis=1)


def renormalized(given: Numbers, known: Truth) -> Numbers:
    """Scale the probabilities (rows, classes) to a sum of 1; uniform for rows without any."""
    shares = np.where(known[:, None], given, 0.0)
    total = shares.sum(axis=1, keepdims=True)
    even = np.full_like(shares, 1 / shares.shape[1])
    found: Numbers = np.divide(shares, total, out=even, where=total > 0)
    return found


def is_class(names: Sequence[str], labels: Sequence[str]) -> Truth:
    """Return whether a row is of a class (rows, classes)."""
    places = {label: place for place, label in enumerate(labels)}
    found: Truth = np.array([places.get(name, -1) for name in names], int)[:, None] == np.arange(len(labels))
    return found


def confidences(
    predicted: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str]
) -> list[float]:
    """Return the renormalized probability of the class that each answer names; 0 if it names none."""
    shares = renormalized(*matrix(probabilities, labels))
    return [rounded(value) for value in shares.sum(axis=1, where=is_class(predicted, labels))]
