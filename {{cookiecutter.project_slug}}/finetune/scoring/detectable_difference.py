"""The smallest difference between two models that a test split can show."""

import math

from finetune.core.task import Task
from finetune.scoring.paired_comparison import ALPHA, POWER

# Assumed before the training, when nobody knows them. Larger values would make the difference larger.
CHANGED = 0.2  # the share of test rows that one of the two models answers rightly and the other wrongly
# Of fewer rows, the evaluation's test shows less than the t test of the formula.
FEWEST_SCORES = 8
SPREADS: dict[Task, float] = {"extract": 0.3, "generate": 0.2}  # of the rows' differences; in the starters: 0.26, 0.08


def detectable_difference(task: Task, rows: int) -> float | None:
    """Return the smallest difference of the mean scores that `rows` test rows show with a power of 0.8.

    The test is the paired one of the evaluation, two-sided at 0.05. None if no difference up to 1 can be shown.
    """
    found = rights_difference(rows) if task == "classify" else scores_difference(rows, SPREADS[task])
    return None if found is None or found > 1 else round(found, 4)


def assumption_of(task: Task, found: float | None) -> str:
    """Return in words what a detectable difference assumes of the two models' answers; "" for none."""
    if found is None:
        return ""
    if task == "classify":
        return f"if one model is right and the other wrong in {max(CHANGED, found):.0%} of the rows"
    return f"if the differences of the rows have a standard deviation of {SPREADS[task]}"


def scores_difference(rows: int, spread: float) -> float | None:
    """Return the difference that a paired t test shows. The evaluation's test has about the same power.

    The usual formula, (t(1 - alpha/2) + t(power)) x spread / sqrt(rows), with the quantiles of Student's t in place of
    the normal ones (Snedecor and Cochran, Statistical Methods, "Size of sample").
    """
    from scipy.stats import t

    if rows < FEWEST_SCORES:
        return None
    return float(t.ppf(1 - ALPHA / 2, rows - 1) + t.ppf(POWER, rows - 1)) * spread / math.sqrt(rows)


def rights_difference(rows: int) -> float | None:
    """Return the difference of two shares of right answers that the score test shows."""
    from scipy.optimize import brentq

    if score_test_power(1, rows) < POWER:
        return None
    return float(brentq(lambda difference: score_test_power(difference, rows) - POWER, 0, 1))


def score_test_power(difference: float, rows: int) -> float:
    """Return the probability that the score test shows a difference of two shares of right answers.

    At a difference of 0 the test is McNemar's without a correction: (wins - losses) / sqrt(wins + losses) is normal.
    The number of rows that change is binomial, and so is the number of wins among them: the exact unconditional power
    (Duffy 1984, Biometrics 40, 1005-1015). CHANGED of the rows change, or more where the difference needs more.
    """
    import numpy as np
    from scipy.special import ndtri
    from scipy.stats import binom

    changed = max(CHANGED, difference)
    low, high = binom.ppf([1e-9, 1 - 1e-9], rows, changed)
    changes = np.arange(low, high + 1)
    # The largest number of losses (or of wins) at which the test says that there is a difference; -1 for none.
    most = np.floor((changes - ndtri(1 - ALPHA / 2) * np.sqrt(changes)) / 2)
    most[changes == 0] = -1
    win = (1 + difference / changed) / 2
    shown = binom.cdf(most, changes, 1 - win) + binom.cdf(most, changes, win)
    return float((binom.pmf(changes, rows, changed) * shown).sum())
