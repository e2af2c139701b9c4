"""How much each row contributes to AUROC and AUPRC, which are no means of rows: both are computed again without it.

The sums over the other rows change by one term or by one count, so all rows together take one sort. What a row's value
is, and how values are compared, is said in jackknife.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.scoring.jackknife import Numbers, ratio, row_values

Truth = NDArray[np.bool_]


def ranking_values(truth: Truth, scores: Numbers) -> dict[str, Numbers]:
    """Return the values of each row for `auroc` and `auprc`, the means over classes of one class against the rest.

    `truth` says which class each row has, and `scores` has the probability of each class; both are (rows, classes), and
    each class has rows and others. A row that is the only one of its class contributes to the other classes only:
    without it, its class has no figure.
    """
    found = {}
    for name, leave_out in (("auroc", areas_without), ("auprc", precisions_without)):
        whole, without = zip(*(leave_out(*column) for column in zip(truth.T, scores.T, strict=True)), strict=True)
        ones = np.ones(len(truth), np.int64)
        found[name] = row_values(np.mean(whole), np.mean(without, axis=0), ones)
    return found


def areas_without(truth: Truth, scores: Numbers) -> tuple[float, Numbers]:
    """Return the AUROC, and that without each row: the share of pairs of a row of the class and another in order."""
    from scipy.stats import rankdata

    ranks, positive, negative = rankdata(scores), int(truth.sum()), int((~truth).sum())
    # Of each row, the rows of the other kind that it is ranked above; ties count half.
    above = ranks.copy()
    above[truth] -= rankdata(scores[truth])
    above[~truth] -= rankdata(scores[~truth])
    in_order = np.where(truth, above, positive - above)
    whole = float(in_order[truth].sum())
    rest = np.where(truth, (positive - 1) * negative, positive * (negative - 1))
    return whole / (positive * negative), defined(whole - in_order, rest, whole / (positive * negative))


def precisions_without(truth: Truth, scores: Numbers) -> tuple[float, Numbers]:
    """Return the average precision, and that without each row: the mean precision at each row of the class.

    The precision at a row is that of all rows with at least its score. Source: scikit-learn's average_precision_score.
    """
    _, place = np.unique(-scores, return_inverse=True)
    positive = np.bincount(place, truth)  # by score, the highest first
    right, rows = positive.cumsum(), np.bincount(place).cumsum()
    kept = positive * ratio(right, rows)
    one_less = positive * ratio(right, rows - 1)  # without a row of another class at or above
    right_less = positive * ratio(right - 1, rows - 1)  # without a row of the class above
    before, total = kept.cumsum() - kept, float(positive.sum())
    without_other = before + one_less[::-1].cumsum()[::-1]
    same = (positive - 1) * ratio(right - 1, rows - 1)
    without_own = before + same + right_less[::-1].cumsum()[::-1] - right_less
    whole = float(kept.sum()) / total
    sums = np.where(truth, without_own[place], without_other[place])
    return whole, defined(sums, np.where(truth, total - 1, total), whole)


def defined(part: Any, whole: Any, otherwise: float) -> Numbers:
    """Return a quotient, and a constant where its divisor is 0."""
    return np.where(whole > 0, ratio(part, whole), otherwise)
