"""Compare two models by the pairs of a preference set: how much more probable is the preferred answer to each?"""

from collections.abc import Sequence

from finetune.core.records.answers import Prediction
from finetune.core.records.evaluation import PreferenceResult
from finetune.scoring.mean_interval import rounded
from finetune.scoring.paired_comparison import paired_difference, verdict

NOT_MEASURED = "not measured: the provider gives no log-probabilities of given answers"
NAME = "of the pairs with the preferred answer ahead"


def preference_result(
    base: Sequence[Prediction], tuned: Sequence[Prediction], groups: Sequence[int]
) -> PreferenceResult:
    """Return the share of pairs in which the preferred answer is the more probable one, and the mean margin.

    A margin is the log-probability of the preferred answer less that of the other one, each summed over its tokens. It
    depends on the lengths of both, and so does the share. The differences between models do not: both score the same
    texts. Pairs that one model could not score are left out and counted.
    """
    measured = [
        (one["margin"], other["margin"], group)
        for one, other, group in zip(base, tuned, groups, strict=True)
        if "margin" in one and "margin" in other
    ]
    if not measured:
        return {"pairs": 0, "not_measured": len(tuned), "verdict": NOT_MEASURED}
    first, second = [one for one, _, _ in measured], [other for _, other, _ in measured]
    kept = [group for _, _, group in measured]
    ahead = [[float(margin > 0) for margin in margins] for margins in (first, second)]
    shares = paired_difference(ahead[0], ahead[1], kept)
    margins = paired_difference(first, second, kept)
    words = verdict(NAME, shares, len(measured))
    grown = verdict("of mean margin", margins, len(measured))
    return {
        "pairs": len(measured),
        "not_measured": len(tuned) - len(measured),
        "base": rounded(sum(ahead[0]) / len(measured)),
        "tuned": rounded(sum(ahead[1]) / len(measured)),
        "lift": shares["lift"],
        "lift_low": shares["low"],
        "lift_high": shares["high"],
        "p_value": shares["p_value"],
        "base_margin": rounded(sum(first) / len(measured)),
        "tuned_margin": rounded(sum(second) / len(measured)),
        "margin_lift": margins["lift"],
        "margin_low": margins["low"],
        "margin_high": margins["high"],
        "margin_p_value": margins["p_value"],
        "verdict": f"{words}; margin {grown}",
    }
