"""Compare two sets of answers to the same rows: the difference, its interval and its p-value."""

import math
from collections.abc import Sequence
from typing import Any

from finetune.core.records import PairedDifference

LEVEL = 0.95
ALPHA = 0.05
RESAMPLES = 2000
POWER = 0.8  # of the test for which the needed rows are computed


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean: Wilson's for scores of 0 and 1, else BCa bootstrap (seeded).

    Sources: statsmodels' proportion_confint, scipy's bootstrap. With one row, or equal rows, a bootstrap has nothing to
    draw from: the interval is then the mean itself.
    """
    import numpy as np
    from statsmodels.stats.proportion import proportion_confint

    if is_binary(scores):
        low, high = proportion_confint(sum(scores), len(scores), 1 - LEVEL, method="wilson")
    else:
        low, high = bootstrap_interval(np.asarray(scores, float))
    return rounded(low), rounded(high)


def bootstrap_interval(values: Any) -> tuple[float, float]:
    """Return the 95 % interval of a mean by BCa bootstrap (seeded); the mean twice if there is nothing to draw from."""
    import numpy as np
    from scipy.stats import bootstrap

    if len(values) < 2 or np.ptp(values) == 0:
        return values.mean(), values.mean()
    seeded = np.random.default_rng(0)
    found = bootstrap((values,), np.mean, confidence_level=LEVEL, n_resamples=RESAMPLES, rng=seeded).confidence_interval
    return found.low, found.high


def paired_difference(before: Sequence[float], after: Sequence[float]) -> PairedDifference:
    """Return the mean difference of `after` to `before` on the same rows, with its 95 % interval and p-value.

    The interval is a paired bootstrap (BCa, seeded). The p-value is McNemar's exact test for scores of 0 and 1, else a
    paired permutation test. `wins` and `losses` count the rows that changed. `more_rows` is the number of further rows
    that would show a difference of this size (two-sided t test, power 0.8); None if there is no difference.
    """
    import numpy as np
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportion_confint

    one, other = np.asarray(before, float), np.asarray(after, float)
    changes = other - one
    wins, losses = int((changes > 0).sum()), int((changes < 0).sum())
    if wins + losses == 0:
        # No row changed. The share that would change in a larger set is bounded like an event that never occurred.
        bound = proportion_confint(0, len(changes), 1 - LEVEL, method="beta")[1]
        low, high = -bound, bound
    else:
        low, high = bootstrap_interval(changes)
    if is_binary([*before, *after]):
        test, p_value = "McNemar, exact", mcnemar([[0, wins], [losses, 0]], exact=True).pvalue
    else:
        test, p_value = "paired permutation", permutation_p_value(one, other)
    return {
        "lift": rounded(changes.mean()),
        "low": rounded(low),
        "high": rounded(high),
        "p_value": float(f"{p_value:.3g}"),
        "test": test,
        "wins": wins,
        "losses": losses,
        "more_rows": more_rows(changes),
    }


def permutation_p_value(one: Any, other: Any) -> float:
    """Return the p-value of a paired permutation test on the mean difference (scipy, seeded); 1 without a change."""
    import numpy as np
    from scipy.stats import permutation_test

    if len(one) < 2 or not (one != other).any():
        return 1.0
    found = permutation_test(
        (one, other),
        lambda a, b, axis=-1: np.mean(b - a, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def more_rows(changes: Any) -> int | None:
    """Return the number of further rows that would show a difference of this size, if it is real."""
    from statsmodels.stats.power import TTestPower

    spread = float(changes.std(ddof=1)) if len(changes) > 1 else 0.0
    size = abs(float(changes.mean()))
    if spread == 0 or size == 0:
        return None
    effect = size / spread
    # For tiny effects the solver fails, and the closed form is close enough.
    needed = TTestPower().solve_power(effect, alpha=ALPHA, power=POWER) if effect > 0.02 else 7.85 / effect**2
    return max(0, math.ceil(float(needed)) - len(changes))


def verdict(name: str, found: PairedDifference, n: int) -> str:
    """Describe a comparison of `n` rows in words that claim no more than it shows."""
    size = f"{abs(found['lift']):.3f} {name}" if name != "accuracy" else f"{abs(found['lift']) * 100:.1f} points"
    sure = f"95 % interval {found['low']:+.3f} to {found['high']:+.3f}, p = {found['p_value']:g}, {n} rows"
    if found["p_value"] <= ALPHA and found["low"] > 0:
        return f"better by {size} ({sure})"
    if found["p_value"] <= ALPHA and found["high"] < 0:
        return f"worse by {size} ({sure})"
    more = found["more_rows"]
    hint = f"; about {more} more rows would settle a difference of this size" if more else ""
    return f"no difference shown ({sure}){hint}"


def is_binary(scores: Sequence[float]) -> bool:
    return all(score in (0, 1) for score in scores)


def rounded(value: Any) -> float:
    return round(float(value), 4)
