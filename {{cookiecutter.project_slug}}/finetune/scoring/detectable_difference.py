"""The smallest difference between two models that a test split can show."""

import math
from collections.abc import Sequence

from finetune.core.task import Task
from finetune.scoring.power_of_tests import ALPHA, POWER, score_test_power

# Assumed before the training, when nobody knows them. Larger values would make the difference larger.
CHANGED = 0.2  # the share of test rows that one of the two models answers rightly and the other wrongly
# Of fewer groups of rows, the evaluation's test shows less than the t test of the formula.
FEWEST_SCORES = 8
ALIKE = 0.3  # the correlation of the differences of two rows of one group
SPREADS: dict[Task, float] = {"extract": 0.3, "generate": 0.2}  # of the rows' differences; in the starters: 0.26, 0.08


def detectable_difference(task: Task, rows: int, groups: Sequence[int] | None = None) -> float | None:
    """Return the smallest difference of the mean scores that `rows` test rows show with a power of 0.8.

    The test is the paired one of the evaluation, two-sided at 0.05. `groups` has the group of each row, None if no two
    rows share one: then alike rows count as fewer. None if no difference up to 1 can be shown.
    """
    factor, count = assumed_effect(groups) if groups else (1.0, rows)
    if task == "classify":
        found = rights_difference(rows, factor, count)
    else:
        found = scores_difference(rows, SPREADS[task] * math.sqrt(factor), count)
    return None if found is None or found > 1 else round(found, 4)


def assumption_of(task: Task, found: float | None, rows: int = 0, groups: int | None = None) -> str:
    """Return in words what a detectable difference assumes of the two models' answers; "" for none."""
    if found is None:
        return ""
    alike = f", and the differences of two rows of a group correlate by {ALIKE}" if groups and groups < rows else ""
    if task == "classify":
        return f"if one model is right and the other wrong in {max(CHANGED, found):.0%} of the rows{alike}"
    return f"if the differences of the rows have a standard deviation of {SPREADS[task]}{alike}"


def assumed_effect(groups: Sequence[int]) -> tuple[float, int]:
    """Return the design effect of rows in groups, and the number of groups.

    The usual formula, 1 + (the mean size of the group of a row - 1) x the correlation within groups (Kish 1965, Survey
    Sampling, 5.4).
    """
    import numpy as np

    _, sizes = np.unique(groups, return_counts=True)
    return 1 + (float((sizes**2).sum()) / len(groups) - 1) * ALIKE, len(sizes)


def scores_difference(rows: int, spread: float, groups: int) -> float | None:
    """Return the difference that a paired t test shows. The evaluation's test has about the same power.

    The usual formula, (t(1 - alpha/2) + t(power)) x spread / sqrt(rows), with the quantiles of Student's t in place of
    the normal ones (Snedecor and Cochran, Statistical Methods, "Size of sample").
    """
    from scipy.stats import t

    if groups < FEWEST_SCORES:
        return None
    return float(t.ppf(1 - ALPHA / 2, groups - 1) + t.ppf(POWER, groups - 1)) * spread / math.sqrt(rows)


def rights_difference(rows: int, factor: float, groups: int) -> float | None:
    """Return the difference of two shares of right answers that the score test shows.

    CHANGED of the rows change, or more where the difference needs more. With groups, the test has Student's quantile,
    and the power of as many independent rows as have the same variance.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri, stdtrit

    if groups < rows and groups < FEWEST_SCORES:
        return None
    share = 1 - ALPHA / 2
    critical = float(ndtri(share) if groups == rows else stdtrit(groups - 1, share))
    independent = int(rows / factor)

    def lacks(difference: float) -> float:
        return POWER - score_test_power(difference, max(CHANGED, difference), independent, critical)

    return None if lacks(1) > 0 else float(brentq(lacks, 0, 1))
