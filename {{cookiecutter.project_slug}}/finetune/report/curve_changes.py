"""How the smooth curve behind noisy losses changes: its rise from its minimum, and its change in the last quarter.

A Gaussian process is fitted to the logarithms of the losses (Rasmussen and Williams 2006, "Gaussian Processes for
Machine Learning", chapters 2 and 5; scikit-learn). It estimates the noise from the residuals, unless the noise is
given, and says how certain the curve is. A difference of logarithms is a relative change.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from finetune.report.training_curves import Curve

if TYPE_CHECKING:
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor

POINTS = 40  # a longer curve is averaged over bins: the fit takes the cube of the points
LEAST_LOSS = 1e-4  # a loss of 0 has no logarithm
DRAWS = 1000
FEWEST_LOSSES = 6  # from which their noise is estimated
LONGEST, SHORTEST = 3.0, 0.4  # of the process, in lengths of the curve: over shorter distances, a change is noise


class Changes(NamedTuple):
    """The changes of a smooth curve; arrays have a value for each curve drawn from the fit."""

    noise: float  # the standard deviation of one loss around the curve, as a share of the loss
    low_step: int  # of the minimum
    low: float
    before_step: int  # at three quarters of the steps
    before: float
    end: float
    rise: "np.ndarray"  # from the minimum to the end
    last: "np.ndarray"  # in the last quarter


def changes_of(curve: Curve, least_noise: float, noise: float | None = None) -> Changes:
    """Return the changes of a curve of at least two points. Without `noise`, it is estimated from the residuals."""
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    from threadpoolctl import threadpool_limits

    bins = np.array_split(np.array(curve, float), min(len(curve), POINTS))
    steps, losses = np.array([part.mean(axis=0) for part in bins]).T
    per_bin = len(curve) / len(bins)
    logs = np.log(np.maximum(losses, LEAST_LOSS))
    places = np.sqrt(steps / steps[-1]).reshape(-1, 1)  # losses change most at the beginning
    white = (
        WhiteKernel(max(logs.var() / 4, least_noise**2), (least_noise**2 / per_bin, 4.0))
        if noise is None
        else WhiteKernel(max(noise, least_noise) ** 2 / per_bin, "fixed")
    )
    smooth = ConstantKernel(max(logs.var(), 1e-3), (1e-5, 1e2)) * RBF(0.5, (SHORTEST, LONGEST))
    with threadpool_limits(1):  # several threads take ten times as long on small data, and may round differently
        fit = fitted(GaussianProcessRegressor(smooth + white), places, logs - logs.mean())
        mean, covariance = fit.predict(places, return_cov=True)
        variance = float(fit.kernel_.k2.noise_level)
        covariance -= variance * np.eye(len(places))  # of the curve, without the noise of single losses
        mean += logs.mean()
        drawn = np.random.default_rng(0).multivariate_normal(mean, covariance, DRAWS, check_valid="ignore")
    low, before = int(mean.argmin()), max(0, int(np.searchsorted(steps, steps[-1] * 0.75, side="right")) - 1)
    return Changes(
        noise=math.sqrt(variance * per_bin),
        low_step=round(steps[low]),
        low=math.exp(mean[low]),
        before_step=round(steps[before]),
        before=math.exp(mean[before]),
        end=math.exp(mean[-1]),
        rise=drawn[:, -1] - drawn[:, low],
        last=drawn[:, -1] - drawn[:, before],
    )


def fitted(process: "GaussianProcessRegressor", places: "np.ndarray", logs: "np.ndarray") -> "GaussianProcessRegressor":
    """Return the fitted process. A parameter at its limit is no fault here."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(places, logs)


def noise_of_neighbours(curve: Curve) -> float | None:
    """Return the relative noise of a long curve from the differences of neighbours in its second half; None if short.

    Half the mean square of differences is the variance of the noise (von Neumann 1941): a smooth curve differs little
    from one step to the next.
    """
    import numpy as np

    logs = np.log(np.maximum([loss for _, loss in curve[len(curve) // 2 :]], LEAST_LOSS))
    return float(np.sqrt(np.mean(np.diff(logs) ** 2) / 2)) if len(logs) >= FEWEST_LOSSES else None
