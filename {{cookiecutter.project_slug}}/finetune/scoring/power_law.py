"""Fit a power law to scores by the number of training rows, and compute what twice the rows would bring.

The error falls as error(n) = least + gain × (n / N)^(-exponent), where N is the largest number of rows (Hestness et al.
2017, "Deep Learning Scaling is Predictable, Empirically"). The law fits most learning curves, not all; some rise again
(Viering and Loog 2022, "The Shape of Learning Curves: a Review").
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from finetune.core.records.variants import CurveFit, CurveLevel
from finetune.scoring.mean_interval import LEVEL, rounded

EXPONENTS = [step / 50 for step in range(1, 101)]  # Hestness et al. measured 0.07 to 0.35; theory gives 0.5 to 1
ASSUMED_SPREAD = 0.08  # a standard deviation of 0.026 at an accuracy of 0.88, of 0.04 at 0.5
ASSUMED_WEIGHT = 2  # degrees of freedom of this assumption, against those of repeated trainings
SMALLEST_ERROR = 0.02  # of which the spread is taken: no score is exact
LINE_POINTS = 13
FEWEST_SIZES = 3  # the law has three parameters
MISFIT = 0.01  # p-value below which the scores do not follow the law


class Point(NamedTuple):
    """A training: its number of rows, and its score of each test row."""

    rows: int
    scores: Sequence[float]


class Errors(NamedTuple):
    """Errors with the inverse of their covariance. `sizes` are the rows as shares of the largest number."""

    sizes: Any
    values: Any
    weights: Any


def fit_power_law(points: Sequence[Point], groups: Sequence[int] | None = None) -> CurveFit | None:
    """Return the law with its intervals; None with fewer than three different numbers of rows.

    The intervals are those of the profile likelihood (Venzon and Moolgavkar 1988): the values whose best law fits
    hardly worse than the best of all. The errors vary with the test rows, which all trainings share, and between
    trainings; `groups` has the group of each test row, None if rows are independent.
    """
    import numpy as np
    from scipy.special import chdtrc, chdtri

    rows = [point.rows for point in points]
    if len(set(rows)) < FEWEST_SIZES:
        return None
    largest = max(rows)
    spread, trainings = spread_between_trainings(points)
    errors = errors_of(points, spread, groups)
    gains, misfits = best_laws(errors)
    best = int(misfits.argmin())
    limit = float(misfits[best]) + float(chdtri(1, 1 - LEVEL))
    exponent, gain = EXPONENTS[best], float(gains[best, 1])
    least = float(gains[best, 0])
    freedom = len(points) - 3
    twice = gain * (1 - 2**-exponent)
    low, high = profile_interval(lambda value: misfit_of_gain(errors, value), twice, limit)

    def level(times: float) -> CurveLevel:
        error = min(1.0, least + gain * times**-exponent)
        ends = profile_interval(lambda value: misfit_of_error(errors, times, value), error, limit)
        return {
            "rows": round(largest * times),
            "score": rounded(1 - error),
            "low": rounded(1 - ends[1]),
            "high": rounded(1 - ends[0]),
        }

    times = np.geomspace(min(rows) / largest, 2, LINE_POINTS)
    fits = freedom < 1 or float(chdtrc(freedom, misfits[best])) >= MISFIT
    found: CurveFit = {
        "best_score": rounded(1 - least),
        "exponent": exponent,
        "spread_between_trainings": rounded(spread * float(unit_of_spread(least + gain))),
        "spread_from_trainings": trainings,
        "fits": bool(fits),
        "gain": rounded(twice),
        "gain_low": rounded(low),
        "gain_high": rounded(high),
        "now": level(1),
        "twice": level(2),
        "line": [level(float(one)) for one in times],
    }
    return found


def spread_between_trainings(points: Sequence[Point]) -> tuple[float, int]:
    """Return how much trainings with the same rows differ, in units of sqrt(error × (1 - error)), and from how many.

    The variance of repeated trainings is combined with an assumed one, by their degrees of freedom: few trainings
    measure a variance badly (a moderated variance, Smyth 2004).
    """
    import numpy as np

    squares, freedom, trainings = ASSUMED_WEIGHT * ASSUMED_SPREAD**2, float(ASSUMED_WEIGHT), 0
    for size in sorted({point.rows for point in points}):
        means = np.array([np.mean(point.scores) for point in points if point.rows == size])
        if len(means) > 1:
            squares += float(((means - means.mean()) ** 2).sum() / unit_of_spread(1 - means.mean()) ** 2)
            freedom += len(means) - 1
            trainings += len(means)
    return math.sqrt(squares / freedom), trainings


def unit_of_spread(errors: Any) -> Any:
    """Return sqrt(error × (1 - error)), in which the spread between trainings is measured."""
    import numpy as np

    near = np.clip(errors, SMALLEST_ERROR, 1 - SMALLEST_ERROR)
    return np.sqrt(near * (1 - near))


def errors_of(points: Sequence[Point], spread: float, groups: Sequence[int] | None) -> Errors:
    """Return the errors and their weights: the covariance over the shared test rows, and that between trainings."""
    import numpy as np

    scores = np.array([point.scores for point in points], float)
    n = scores.shape[1]
    values = 1 - scores.mean(1)
    _, place = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    count = int(place.max()) + 1
    sums = np.array([np.bincount(place, row - row.mean(), minlength=count) for row in scores])
    over_rows = sums @ sums.T / n**2 * count / max(1, count - 1)
    # A mean of few rows that are all right is not exact.
    covariance = over_rows + np.diag((spread * unit_of_spread(values)) ** 2 + 1 / n**2)
    sizes = np.array([point.rows for point in points], float)
    return Errors(sizes / sizes.max(), values, np.linalg.inv(covariance))


def best_laws(errors: Errors) -> tuple[Any, Any]:
    """Return for each exponent the least error and the gain that fit best, both at least 0, and their misfit."""
    import numpy as np
    from scipy.optimize import nnls

    root = np.linalg.cholesky(errors.weights).T
    laws, misfits = [], []
    for exponent in EXPONENTS:
        terms = np.column_stack([np.ones(len(errors.sizes)), errors.sizes**-exponent])
        law, distance = nnls(root @ terms, root @ errors.values)
        laws.append(law)
        misfits.append(distance**2)
    return np.array(laws), np.array(misfits)


def misfit_of_gain(errors: Errors, twice: float) -> float:
    """Return the misfit of the best law whose error falls by `twice` when the rows are doubled."""
    import numpy as np

    exponents = np.array(EXPONENTS)
    gains = twice / (1 - 2**-exponents)
    rest = errors.values - gains[:, None] * errors.sizes ** -exponents[:, None]
    least = np.maximum(0, rest @ errors.weights.sum(1) / errors.weights.sum())
    return least_misfit(rest - least[:, None], errors)


def misfit_of_error(errors: Errors, times: float, error: float) -> float:
    """Return the misfit of the best law with this error at `times` the rows."""
    import numpy as np

    exponents = np.array(EXPONENTS)
    at = times**-exponents
    terms = errors.sizes ** -exponents[:, None] - at[:, None]
    rest = errors.values - error
    weighted = terms @ errors.weights
    norms = (weighted * terms).sum(1)
    gains = np.clip(np.divide(weighted @ rest, norms, out=np.zeros_like(norms), where=norms > 0), 0, error / at)
    return least_misfit(rest - gains[:, None] * terms, errors)


def least_misfit(residuals: Any, errors: Errors) -> float:
    return float(((residuals @ errors.weights) * residuals).sum(1).min())


def profile_interval(misfit: Any, best: float, limit: float) -> tuple[float, float]:
    """Return the values from 0 to 1 around `best` whose misfit is at most `limit`."""
    from scipy.optimize import brentq

    def beyond(value: float) -> float:
        return float(misfit(value)) - limit

    low = 0.0 if best <= 0 or beyond(0.0) <= 0 else brentq(beyond, 0.0, best, xtol=1e-5)
    high = 1.0 if best >= 1 or beyond(1.0) <= 0 else brentq(beyond, best, 1.0, xtol=1e-5)
    return float(low), float(high)
