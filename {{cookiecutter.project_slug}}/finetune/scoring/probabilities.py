"""How sure a model is of its classes, by the log-probabilities of its answers, and whether it is so rightly."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from finetune.scoring.classify import MARKS

FLOOR = 1e-6  # of the probability of the true class, so that no row alone decides the log loss
BINS = 10

# One of the letters of a word, or a byte of one that the next token completes.
LETTER = re.compile(r"[\w\udc80-\udcff]")
NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")

Top = Sequence[tuple[str, float | None]]
Ways = dict[bytes, tuple[int, ...]]


def token_text(token: str) -> str:
    """A token as text, from its bytes with one letter for each: only they tell the pieces of a letter apart."""
    return token.encode("latin-1").decode("utf-8", "surrogateescape")


def as_text(tops: Sequence[Top]) -> list[Top]:
    """The same, with each token as text."""
    return [[(token_text(token), logprob) for token, logprob in top] for top in tops]


def class_probabilities(tops: Sequence[Top], labels: Sequence[str]) -> list[float]:
    """The probability of each class by what the log-probabilities of one answer say, in the order of `labels`.

    `tops` has a list for each token of the answer: first the chosen token, then the likeliest ones, which may have the
    chosen one again. A token is its text (see `token_text`) and its log-probability; one that is no finite number is as
    good as absent. Blanks, quotes and stars before the answer say nothing, and case is ignored, as in `label_of`.

    The chosen tokens are followed down. At each, every alternative that begins just one class, as the chosen text so
    far goes on with it, gives that class its mass. So does the chosen one, and then no more is read; if it begins
    several classes, the next token decides, and the end of the answer for the class that it is as a whole. A mass that
    nothing decides, as that of an alternative which begins several classes, is split equally among them. What begins no
    class is outside, so the sum is at most 1. It is NaN for all where there is no log-probability at all.
    """
    masses = [0.0] * len(labels)
    if not any(is_finite(logprob) for top in tops for _, logprob in top):
        return [math.nan] * len(labels)
    begins, wholes = beginnings(tuple(labels))

    def give(classes: Sequence[int], mass: float) -> None:
        for index in classes:
            masses[index] += mass / len(classes)

    text, mass = "", 1.0
    for top in tops:
        shares: dict[str, float] = {}
        for token, logprob in top:
            if is_finite(logprob):
                shares.setdefault(token, math.exp(min(logprob or 0.0, 0.0)))
        chosen = top[0][0] if top else ""
        for token, share in shares.items():
            if token != chosen:
                give(begun(compared(text + token), begins, wholes), mass * share)
        text, mass = text + chosen, mass * shares.get(chosen, 0.0)
        classes = begun(compared(text), begins, wholes)
        if len(classes) < 2:
            give(classes, mass)
            break
    else:
        if said := compared(text):
            give(wholes.get(said) or begun(said, begins, wholes), mass)
    # Rounded log-probabilities may add up to a little more than 1.
    total = max(1.0, sum(masses))
    return [mass / total for mass in masses]


def is_finite(logprob: float | None) -> bool:
    return logprob is not None and math.isfinite(logprob)


def compared(text: str) -> bytes:
    """An answer's text as classes are compared with it: in UTF-8, where the pieces of a letter join."""
    whole = NO_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return whole.casefold().lstrip(MARKS).encode("utf-8", "surrogateescape")


@lru_cache(maxsize=8)
def beginnings(labels: tuple[str, ...]) -> tuple[Ways, Ways]:
    """The classes by each text that begins them, and by the text that they are."""
    begins, wholes = defaultdict(list), defaultdict(list)
    for index, label in enumerate(labels):
        if whole := compared(label):
            wholes[whole].append(index)
            for end in range(len(whole) + 1):
                begins[whole[:end]].append(index)
    return ({text: tuple(found) for text, found in begins.items()}, {k: tuple(found) for k, found in wholes.items()})


def begun(text: bytes, begins: Ways, wholes: Ways) -> tuple[int, ...]:
    """The classes that a text begins, or else the longest that begins the text and is followed by no letter there."""
    if text in begins:
        return begins[text]
    for end in range(len(text) - 1, 0, -1):
        if text[:end] in wholes and not LETTER.match(text[end:].decode("utf-8", "surrogateescape")):
            return wholes[text[:end]]
    return ()


def probability_metrics(
    expected: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str]
) -> dict[str, float]:
    """AUROC, AUPRC, log loss, calibration error, the mass outside the classes and the rows without log-probabilities.

    `probabilities` has a row of `class_probabilities` for each answer; all but `outside` see it renormalised, and a row
    without log-probabilities as uniform: it knows nothing. `auroc` and `auprc` are of the second label where there are
    two, else the macro average of one class against the rest; classes that no row or every row has are left out, and
    the keys with the last of them. `calibration_error` is the expected one over ten bins of the confidence in the
    likeliest class. Where no row has log-probabilities, `no_logprobs` is all there is.
    """
    import numpy as np
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    given, known = matrix(probabilities, labels)
    metrics: dict[str, float] = {"no_logprobs": int((~known).sum())}
    if not known.any():
        return metrics
    shares, truth = renormalised(given, known), is_class(expected, labels)
    told = truth.any(axis=0) & ~truth.all(axis=0)
    if len(labels) == 2:
        told[0] = False
    if told.any():
        # Not truth[:, told]: numpy lays that out by columns, which scikit-learn is twenty times slower with.
        classes = truth.compress(told, axis=1), shares.compress(told, axis=1)
        metrics["auroc"] = rounded(roc_auc_score(*classes))
        metrics["auprc"] = rounded(average_precision_score(*classes))
    # As the loss of being right or not: so a class that is none of the labels costs the floor, like one ruled out.
    likelihood = np.clip(shares.sum(axis=1, where=truth), FLOOR, 1)
    metrics["log_loss"] = rounded(
        log_loss(np.ones(len(truth)), np.column_stack([1 - likelihood, likelihood]), labels=[0, 1])
    )
    bins = calibration_rows(expected, probabilities, labels)
    gaps = [abs(one["confidence"] - one["accuracy"]) for one in bins]
    metrics["calibration_error"] = rounded(np.average(gaps, weights=[one["rows"] for one in bins]))
    metrics["outside"] = rounded(np.clip(1 - given[known].sum(axis=1), 0, 1).mean())
    return metrics


def calibration_rows(
    expected: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str]
) -> list[dict[str, float]]:
    """The mean confidence in the likeliest class, its accuracy and the number of rows, for each of ten bins with rows.

    Of classes that are equally likely each counts in part, so that the order of the labels does not matter. There is no
    bin where no row has log-probabilities. Source: scipy's binned_statistic.
    """
    import numpy as np
    from scipy.stats import binned_statistic

    given, known = matrix(probabilities, labels)
    if not known.any():
        return []
    shares, truth = renormalised(given, known), is_class(expected, labels)
    confidence = shares.max(axis=1)
    likeliest = shares == confidence[:, None]
    accuracy = (likeliest & truth).sum(axis=1) / likeliest.sum(axis=1)
    confidence = np.clip(confidence, 0, 1)
    binned = binned_statistic(confidence, [confidence, accuracy], "mean", bins=BINS, range=(0, 1))
    counts = np.bincount(binned.binnumber, minlength=BINS + 1)[1:]
    return [
        {"confidence": rounded(sure), "accuracy": rounded(right), "rows": int(rows)}
        for sure, right, rows in zip(*binned.statistic, counts, strict=True)
        if rows
    ]


def confidences(
    predicted: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str]
) -> list[float]:
    """The renormalised probability of the class that each row's answer names; 0 where it names none."""
    shares = renormalised(*matrix(probabilities, labels))
    return [rounded(value) for value in shares.sum(axis=1, where=is_class(predicted, labels))]


def matrix(probabilities: Sequence[Sequence[float]], labels: Sequence[str]) -> tuple[Any, Any]:
    """The probabilities (rows, classes), and which rows have log-probabilities (rows,)."""
    import numpy as np

    given = np.asarray(probabilities, float).reshape(len(probabilities), len(labels))
    return given, np.isfinite(given).all(axis=1)


def renormalised(given: Any, known: Any) -> Any:
    """The probabilities of one class or another; uniform where nothing tells."""
    import numpy as np

    shares = np.where(known[:, None], given, 0.0)
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=np.full_like(shares, 1 / shares.shape[1]), where=total > 0)


def is_class(names: Sequence[str], labels: Sequence[str]) -> Any:
    """Whether a row is of a class (rows, classes)."""
    import numpy as np

    places = {label: place for place, label in enumerate(labels)}
    return np.array([places.get(name, -1) for name in names], int)[:, None] == np.arange(len(labels))


def rounded(value: Any) -> float:
    return round(float(value), 4)
