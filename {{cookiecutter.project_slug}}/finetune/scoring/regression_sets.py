"""Score the regression sets of `evaluate.also`: is the tuned model no worse than the base by more than a margin?"""

from collections.abc import Mapping, Sequence

from finetune.core.errors import FinetuneError
from finetune.core.params import Also
from finetune.core.records import Prediction, RegressionPrediction, RegressionResult
from finetune.scoring.paired_comparison import paired_difference, verdict
from finetune.scoring.tasks import score


def score_regression_sets(
    sets: Mapping[str, Also],
    base: Sequence[RegressionPrediction],
    tuned: Sequence[RegressionPrediction],
    groups: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, RegressionResult]:
    """Return the result of each set, by its name; `base` and `tuned` are the answers to all sets.

    `groups` has the group of each row by set, None if rows are independent. Raises FinetuneError for a set without
    answers.
    """

    def rows_of(name: str, rows: Sequence[RegressionPrediction]) -> list[Prediction]:
        return [row for row in rows if row["set"] == name]

    for name in sets:
        counts = {len(rows_of(name, rows)) for rows in (base, tuned)} | ({len(groups[name])} if groups else set())
        if len(counts) > 1 or counts == {0}:
            raise FinetuneError(f"evaluate.also.{name}: the models have not answered this set.", "Run: dvc repro")
    return {
        name: score_set(one, rows_of(name, base), rows_of(name, tuned), groups[name] if groups else None)
        for name, one in sets.items()
    }


def score_set(
    settings: Also, base: Sequence[Prediction], tuned: Sequence[Prediction], groups: Sequence[int] | None
) -> RegressionResult:
    """Score both models on one set, and compare the lower bound of their difference with the margin."""
    before, after = (
        score(settings.task, [row["expected"] for row in rows], [row["answer"] for row in rows])
        for rows in (base, tuned)
    )
    found = paired_difference(before.scores, after.scores, groups)
    kept = found["low"] >= -settings.margin
    words = f"{'' if kept else 'not shown to be '}within the margin of {settings.margin:g}"
    result: RegressionResult = {
        "task": settings.task,
        "metric": after.metric,
        "n": len(after.scores),
        "base": before.metrics[before.metric],
        "tuned": after.metrics[after.metric],
        "lift": found["lift"],
        "low": found["low"],
        "high": found["high"],
        "margin": settings.margin,
        "kept": int(kept),
        "verdict": f"{verdict(after.metric, found, len(after.scores))}; {words}",
    }
    if found["groups"] < len(after.scores):
        result["groups"] = found["groups"]
    return result
