"""Compare two sets of answers to the same rows: the difference, its interval and its p-value."""

import math
from collections.abc import Sequence

import numpy as np

from finetune.core.records.evaluation import PairedDifference
from finetune.scoring.design_effect import DesignEffect, Values, design_effect
from finetune.scoring.fresh_rows import fresh_rows
from finetune.scoring.mean_interval import LEVEL, rounded
from finetune.scoring.power_of_tests import ALPHA

EDGE = 1e-9  # the score statistic is not defined at a difference of exactly 1


def paired_difference(before: Values, after: Values, groups: Sequence[int] | None = None) -> PairedDifference:
    """Return the mean difference of `after` to `before` on the same rows, with its 95 % interval and p-value.

    `groups` has the group of each row, None if rows are independent. Interval and p-value are of one method, so that
    the interval excludes 0 exactly where the p-value is at most 0.05. For scores of 0 and 1, and where few rows change,
    it is Tango's score interval and test for paired proportions (Tango 1998, Statistics in Medicine 17), with the
    counts divided by the design effect; at a difference of 0 the test is McNemar's, without a correction for
    continuity. For other scores it is the paired t interval and test, with the standard error between groups (Miller
    2024, "Adding Error Bars to Evals"). `wins` and `losses` count the rows that changed.
    `fresh_rows` is the size of another test set that would show a difference of this size, if it is real, in 4 of 5
    cases; None if there is no difference, or if one group of rows does not show how groups vary.
    """
    changes = np.asarray(after, float) - np.asarray(before, float)
    n, unit = len(changes), max(1.0, float(np.abs(changes).max()))  # scores of some graders differ by more than 1
    shares = changes / unit
    gained, lost = float(shares[shares > 0].sum()), float(-shares[shares < 0].sum())
    variance = (gained + lost - (gained - lost) ** 2 / n) / n**2
    is_binary = bool(np.isin(shares, (-1, 0, 1)).all())
    effect = design_effect(shares, variance, groups, is_binary)
    by_score = is_binary or effect.few_changes
    if effect.is_estimated and effect.groups < 2:
        low, high, p_value = -1.0, 1.0, 1.0  # one group does not show how groups vary
    elif by_score:
        counts = (gained / effect.factor, lost / effect.factor, n / effect.factor)
        low, high = score_interval(*counts, critical=effect.critical_value(LEVEL))
        p_value = effect.p_value(score_statistic(0.0, *counts))
    else:
        error, mean = math.sqrt(variance * effect.factor), float(shares.mean())
        margin = effect.critical_value(LEVEL) * error
        low, high, p_value = max(-1.0, mean - margin), min(1.0, mean + margin), effect.p_value(mean / error)
    return {
        "lift": rounded(changes.mean()),
        "low": rounded(low * unit),
        "high": rounded(high * unit),
        "p_value": float(f"{p_value:.3g}"),
        "test": name_of_test(effect, by_score, n),
        "wins": int((changes > 0).sum()),
        "losses": int((changes < 0).sum()),
        "groups": effect.groups,
        "fresh_rows": fresh_rows(gained / n, lost / n, variance * effect.factor * n, n, effect, by_score),
    }


def score_statistic(difference: float, gained: float, lost: float, n: float) -> float:
    """Return Tango's statistic for a difference: about normal if that is the true one.

    `gained` and `lost` are the discordant counts of `n` pairs. The share of losses is estimated under the difference.
    """
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    share_lost = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * share_lost + difference * (1 - difference))
    distance = gained - lost - n * difference
    if variance <= 0:
        return math.copysign(math.inf, distance) if abs(distance) > EDGE * n else 0.0
    return distance / math.sqrt(variance)


def score_interval(gained: float, lost: float, n: float, critical: float) -> tuple[float, float]:
    """Return the differences whose statistic is within the critical value."""
    from scipy.optimize import brentq

    estimate = (gained - lost) / n
    low, high = -1.0, 1.0
    if estimate > -1 + EDGE and score_statistic(-1 + EDGE, gained, lost, n) > critical:
        low = brentq(lambda at: score_statistic(at, gained, lost, n) - critical, -1 + EDGE, estimate)
    if estimate < 1 - EDGE and score_statistic(1 - EDGE, gained, lost, n) < -critical:
        high = brentq(lambda at: score_statistic(at, gained, lost, n) + critical, estimate, 1 - EDGE)
    return low, high


def name_of_test(effect: DesignEffect, by_score: bool, n: int) -> str:
    name = "score test (Tango)" if by_score else "paired t test"
    return name if effect.groups == n else f"{name}, between groups of rows"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number by Holm's method (statsmodels)."""
    from statsmodels.stats.multitest import multipletests

    # One needs no correction, and multipletests() searches all memory for garbage.
    found = multipletests(p_values, method="holm")[1] if len(p_values) > 1 else p_values
    return [float(f"{value:.3g}") for value in found]


def verdict(name: str, found: PairedDifference, n: int, p_holm: float | None = None, comparisons: int = 1) -> str:
    """Describe a comparison of `n` rows in words that claim no more than it shows.

    `p_holm` is the p-value corrected for a number of comparisons, which then decides.
    """
    size = (
        f"{abs(found['lift']):.3f} {name}"
        if name != "accuracy"
        else f"{abs(found['lift']) * 100:.1f} points of accuracy"
    )
    rows = f"{n} rows" if found["groups"] == n else f"{n} rows in {found['groups']} group{'s' * (found['groups'] > 1)}"
    sure = f"95 % interval {found['low']:+.3f} to {found['high']:+.3f}, p = {found['p_value']:g}, {rows}"
    if p_holm is not None and comparisons > 1:
        sure += f"; p = {p_holm:g} corrected for {comparisons} comparisons"
    if max(found["p_value"], p_holm or 0.0) <= ALPHA:
        return f"{'better' if found['lift'] > 0 else 'worse'} by {size} ({sure})"
    # Alone, the comparison would show one; its interval, which is not corrected, excludes 0.
    corrected = f" after the correction for {comparisons} comparisons" if found["p_value"] <= ALPHA else ""
    fresh = found["fresh_rows"]
    hint = f"; a fresh test set of about {fresh:,} rows would show such a difference in 4 of 5 cases" if fresh else ""
    return f"no difference shown{corrected} ({sure}){hint}"
