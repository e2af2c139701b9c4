"""The probability that the evaluation's tests show a difference that is real."""

import math

from finetune.scoring.design_effect import FEW_CHANGES

ALPHA = 0.05
POWER = 0.8  # of the test for which rows or differences are computed


def score_test_power(difference: float, changed: float, rows: int, critical: float) -> float:
    """Return the probability that the score test shows a difference of two shares of right answers.

    At a difference of 0 the test is McNemar's without a correction: (wins - losses) / sqrt(wins + losses) is normal.
    The number of rows that change is binomial, and so is the number of wins among them: the exact unconditional power
    (Duffy 1984, Biometrics 40, 1005-1015). The share `changed` of the rows changes.
    """
    import numpy as np
    from scipy.special import bdtr

    likely, margin = rows * changed, 5 * math.sqrt(rows * changed * (1 - changed)) + 5  # others are of no account
    changes = np.arange(max(0, math.floor(likely - margin)), min(rows, math.ceil(likely + margin)) + 1)
    chances = np.diff(bdtr(changes, rows, changed), prepend=0.0)
    # The largest number of losses (or of wins) at which the test says that there is a difference; below 0 for none.
    most = np.floor((changes - critical * np.sqrt(changes)) / 2)
    most[changes == 0] = -1
    win = min(1.0, (1 + difference / changed) / 2)
    least = np.maximum(most, 0)
    shown = np.where(most < 0, 0.0, bdtr(least, changes, 1 - win) + bdtr(least, changes, win))
    return float(chances @ shown)


def t_test_power(errors: float, groups: int, differing: float, critical: float) -> float:
    """Return the probability that the paired t test shows a difference of `errors` standard errors.

    The noncentral t distribution (Cohen 1988, "Statistical Power Analysis", chapter 2). Where fewer than FEW_CHANGES
    groups differ from the others, the score test takes its place, which shows less; `differing` is the share of groups
    that do.
    """
    from scipy.special import bdtrc, nctdtr

    errors = min(errors, 10.0)  # far above, scipy returns no number
    enough = float(bdtrc(FEW_CHANGES - 1, groups, differing)) if groups >= FEW_CHANGES else 0.0
    return enough * (1 - float(nctdtr(groups - 1, errors, critical)))
