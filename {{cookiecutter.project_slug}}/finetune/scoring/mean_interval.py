"""The interval of a mean score."""

import math
from collections.abc import Sequence

import numpy as np

from finetune.scoring.design_effect import Values, design_effect

LEVEL = 0.95


def interval(scores: Values, groups: Sequence[int] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a mean; `groups` has the group of each score, None if rows are independent.

    It is Wilson's interval (statsmodels), with the number of rows divided by the design effect. Scores may lie outside
    0 and 1, as those of some graders do; the interval is then within the scores' own range.
    """
    from scipy.special import ndtr
    from statsmodels.stats.proportion import proportion_confint

    values = np.asarray(scores, float)
    least, most = min(0.0, float(values.min())), max(1.0, float(values.max()))
    shares = (values - least) / (most - least)
    mean, n = float(shares.mean()), len(shares)
    effect = design_effect(shares, mean * (1 - mean) / n, groups, bool(np.isin(shares, (0, 1)).all()))
    if effect.groups < 2 and effect.is_estimated:
        return rounded(least), rounded(most)  # one group does not show how groups vary
    rows = n / effect.factor
    alpha = 2 * ndtr(-effect.critical_value(LEVEL))
    low, high = proportion_confint(mean * rows, rows, alpha, method="wilson")
    return rounded(least + low * (most - least)), rounded(least + high * (most - least))


def ranking_interval(values: Values, groups: Sequence[int] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of AUROC or AUPRC from the values of rows: Student's t in log-odds (delta method).

    Near 1 these vary more to one side, so that an interval for shares covers too seldom (Boyd, Eng and Page 2013).
    Where log-odds or the variance are not defined, it is `interval`.
    """
    from scipy.special import expit, logit

    shares = np.asarray(values, float)
    mean, n = float(shares.mean()), len(shares)
    variance = mean * (1 - mean) / n
    effect = design_effect(shares, variance, groups, is_binary=False)
    if variance * effect.factor <= 0 or effect.groups < 2:
        return interval(shares.clip(0, 1), groups)
    margin = effect.critical_value(LEVEL) * math.sqrt(effect.factor / (n * mean * (1 - mean)))
    centre = float(logit(mean))
    return rounded(float(expit(centre - margin))), rounded(float(expit(centre + margin)))


def rounded(value: float) -> float:
    return round(float(value), 4)
