"""How many rows another test set needs to show a difference."""

import math

from finetune.scoring.design_effect import DesignEffect
from finetune.scoring.mean_interval import LEVEL, rounded
from finetune.scoring.power_of_tests import ALPHA, POWER, score_test_power, t_test_power

AHEAD = 5  # numbers in a row that must have the power: it falls a little from some numbers to the next
LARGE = 1000  # rows, or groups of them, from which the usual formula has the power to within 0.002


def fresh_rows(gained: float, lost: float, variance: float, n: int, effect: DesignEffect, by_score: bool) -> int | None:
    """Return how many rows show a difference with a power of 0.8, by the test that compared `n` rows.

    `gained` and `lost` are shares of the rows, `variance` is that of one row's difference. The usual formula, (z(1 -
    alpha/2) + z(power))^2 x variance / difference^2, is too small for large differences. So the search begins there,
    and goes up to the first number that has the power, as the AHEAD - 1 numbers after it have. Rows in groups are added
    by groups of the same mean size. None for a difference that is 0 in four decimals, and if all rows are in one group,
    which does not show how groups vary.
    """
    from scipy.special import ndtri

    difference = abs(gained - lost)
    if rounded(difference) == 0 or (effect.is_estimated and effect.groups < 2):
        return None
    first = max(2, math.ceil(float(ndtri(1 - ALPHA / 2) + ndtri(POWER)) ** 2 * variance / difference**2))
    step = max(1.0, n / effect.groups, effect.factor)
    if first / step > LARGE:
        return first

    def power(rows: int) -> float:
        of_rows = effect._replace(groups=math.floor(rows * effect.groups / n))
        if of_rows.groups < 2 and effect.is_estimated:
            return 0.0
        critical = of_rows.critical_value(LEVEL)
        if by_score:
            return score_test_power(difference, min(1.0, gained + lost), math.floor(rows / effect.factor), critical)
        errors = difference / math.sqrt(variance / rows)
        return t_test_power(errors, of_rows.groups, effect.differing / effect.groups, critical)

    held = 0
    for added in range(LARGE):
        held = held + 1 if power(first + math.ceil(added * step)) >= POWER else 0
        if held == AHEAD:
            return first + math.ceil((added - AHEAD + 1) * step)
    return None
