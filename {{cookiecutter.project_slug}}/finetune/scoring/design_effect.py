"""How much the mean of some scores varies, against what independent scores of 0 and 1 would.

Rows of one group, such as the turns of one conversation, are alike: ten of them say less than ten rows of ten groups.
Scores between 0 and 1 vary less than scores of 0 or 1. Both change the variance of a mean by a factor, the design
effect (Kish 1965), and dividing counts by it makes the intervals for proportions hold (Rao and Scott 1992).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Sequence[float] | NDArray[np.float64]

FEW_CHANGES = 5  # with fewer groups that differ from the others, their variance is too uncertain to be used


class DesignEffect(NamedTuple):
    """The factor of the variance, and what its certainty depends on."""

    factor: float
    groups: int  # that are independent of each other: the rows, if no groups are given
    is_estimated: bool  # from the scores; else it is known
    few_changes: bool = False  # the factor is that of groups whose values are all the same
    differing: int = 0  # groups whose mean is not the most frequent one

    def critical_value(self, level: float) -> float:
        """Return the quantile for a two-sided interval: Student's t where the variance is estimated from the groups."""
        from scipy.special import ndtri, stdtrit

        share = 0.5 + level / 2
        return float(stdtrit(self.groups - 1, share) if self.is_estimated else ndtri(share))

    def p_value(self, z: float) -> float:
        """Return the two-sided p-value of a statistic."""
        from scipy.special import ndtr, stdtr

        return float(2 * (stdtr(self.groups - 1, -abs(z)) if self.is_estimated else ndtr(-abs(z))))


def design_effect(values: Any, variance: float, groups: Sequence[int] | None, is_binary: bool) -> DesignEffect:
    """Return the design effect of the mean of `values`, an array.

    `variance` is that of the mean if the values were independent and binary. `groups` has the group of each value;
    None: no two values share one. Then values of 0 and 1 have the factor 1. If fewer than FEW_CHANGES groups differ
    from the others, the factor is at least that of groups whose values are all the same.
    """
    n = len(values)
    if groups is None:
        count, sums, means = n, values - values.mean(), values
    else:
        _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        count = len(sizes)
        sums = np.bincount(place, values - values.mean())
        means = np.bincount(place, values) / sizes
    if is_binary and count == n:
        return DesignEffect(1.0, n, False)
    if count < 2:
        return DesignEffect(float(n), 1, True)
    _, same = np.unique(means.round(9), return_counts=True)
    differing = count - int(same.max())
    few = differing < FEW_CHANGES
    least = n / count if few else 1.0 if is_binary else 0.0
    found = count / (count - 1) * float((sums**2).sum()) / n**2
    return DesignEffect(max(least, found / variance if variance > 0 else 0.0), count, True, few, differing)
