"""Measure calibration: whether answers with a confidence of 0.8 are right in 8 of 10 cases."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from finetune.scoring.mean_interval import rounded
from finetune.scoring.probability_matrix import confidences, is_class, matrix

BINS = 10
DRAWS = 2000  # of the interval of the calibration error


class CalibrationBin(TypedDict):
    confidence: float
    accuracy: float
    rows: int


def calibration_bins(
    expected: Sequence[str], predicted: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str]
) -> list[CalibrationBin]:
    """Return mean confidence in the answered class, accuracy and number of rows, for each of ten bins with rows.

    The answered class is not always the likeliest: an answer is what users get, so its confidence is compared with how
    often it is right. Rows without log-probabilities, and answers that name no class, are left out: they have no
    confidence. Source: scipy's binned_statistic.
    """
    from scipy.stats import binned_statistic

    _, known = matrix(probabilities, labels)
    known = known & is_class(predicted, labels).any(axis=1)
    if not known.any():
        return []
    confidence = np.clip(np.array(confidences(predicted, probabilities, labels)), 0, 1)[known]
    right = np.array([float(a == b) for a, b in zip(expected, predicted, strict=True)])[known]
    binned = binned_statistic(confidence, [confidence, right], "mean", bins=BINS, range=(0, 1))
    counts = np.bincount(binned.binnumber, minlength=BINS + 1)[1:]
    return [
        {"confidence": rounded(sure), "accuracy": rounded(accuracy), "rows": int(rows)}
        for sure, accuracy, rows in zip(*binned.statistic, counts, strict=True)
        if rows
    ]


def calibration_error(bins: Sequence[CalibrationBin]) -> dict[str, float]:
    """Return the expected calibration error of bins with its 95 % interval; {} without bins.

    The error of a perfectly calibrated model is above 0 by chance: 0.07 with 169 rows. So the interval begins at 0
    unless the error is larger than that of 97.5 % of the samples that are drawn with the confidences as the true
    accuracies (consistency resampling: Broecker and Smith 2007, Weather and Forecasting 22). Its other ends are those
    of the basic bootstrap, which also corrects the bias (Efron and Tibshirani 1993), with Jeffreys' estimate of the
    accuracies, so that a bin whose answers are all right has a width.
    """
    if not bins:
        return {}
    sure, right = (np.array([one[key] for one in bins], float) for key in ("confidence", "accuracy"))
    rows = np.array([one["rows"] for one in bins])
    weights = rows / rows.sum()
    error = float(weights @ abs(sure - right))
    random = np.random.default_rng(0)
    by_chance = abs(random.binomial(rows, sure, (DRAWS, len(rows))) / rows - sure) @ weights
    smoothed = (right * rows + 0.5) / (rows + 1)
    counts = random.multinomial(rows.sum(), weights, DRAWS)
    drawn = abs(random.binomial(counts, smoothed) - counts * sure).sum(axis=1) / rows.sum()
    low, high = np.quantile(drawn, [0.025, 0.975])
    least = 2 * error - high if error > np.quantile(by_chance, 0.975) else 0.0
    most = max(error, 2 * error - low, high if least <= 0 else 0.0)
    return {
        "calibration_error": rounded(error),
        "calibration_error_low": rounded(min(max(0.0, least), error)),
        "calibration_error_high": rounded(min(1.0, most)),
    }
