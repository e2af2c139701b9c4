"""Compare two models on the rows that both answered, where one of them failed some rows.

A row without an answer, or with a refusal, is wrong. So a model whose provider refused many rows seems worse than it
is, and the tuned model better.
"""

from collections.abc import Sequence

from finetune.core.params import Params
from finetune.core.records.answers import Prediction
from finetune.core.records.evaluation import LiftOnAnswered
from finetune.core.records.prepared import PrepareReport
from finetune.scoring.evaluation import RowGroups, difference
from finetune.scoring.paired_comparison import verdict
from finetune.scoring.prediction_scores import score_predictions


def is_answered(row: Prediction) -> bool:
    return "error" not in row and not row.get("refused", False)


def lift_on_answered(
    params: Params,
    prepared: PrepareReport,
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
    groups: RowGroups = None,
) -> LiftOnAnswered | None:
    """Return the difference of tuned to base on the rows that both answered; None if these are all rows."""
    both = [place for place, rows in enumerate(zip(base, tuned, strict=True)) if all(map(is_answered, rows))]
    if len(both) == len(tuned):
        return None
    unanswered = [sum(not is_answered(row) for row in rows) for rows in (base, tuned)]
    found: LiftOnAnswered = {
        "n": len(both),
        "base_unanswered": unanswered[0],
        "tuned_unanswered": unanswered[1],
        "verdict": "no difference can be shown",
    }
    if not both:
        return found
    within = [groups[place] for place in both] if groups is not None else None
    before, after = (
        score_predictions(params, prepared, [rows[place] for place in both], within) for rows in (base, tuned)
    )
    by = difference(before, after, within)
    return found | {
        "lift": by["lift"],
        "low": by["low"],
        "high": by["high"],
        "p_value": by["p_value"],
        "verdict": verdict(after.metric, by, len(both)),
    }
