"""Score the regression sets of `evaluate.also`: is the tuned model no worse than the base by more than a margin?"""

from collections.abc import Mapping, Sequence

from finetune.core.errors import FinetuneError
from finetune.core.records.answers import Prediction, RegressionPrediction
from finetune.core.records.evaluation import RegressionResult
from finetune.core.sections.evaluate import Also
from finetune.scoring.both_answered import is_answered
from finetune.scoring.paired_comparison import paired_difference, verdict
from finetune.scoring.prediction_scores import scored_text
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
    settings: Also, base: Sequence[Prediction], tuned: Sequence[Prediction], groups: Sequence[int] | None = None
) -> RegressionResult:
    """Score both models on one set, and compare the lower bound of their difference with the margin.

    Rows that the base did not answer are left out: there is nothing to keep. Raises FinetuneError if it answered none.
    """
    failed = [sum(not is_answered(row) for row in rows) for rows in (base, tuned)]
    known = [place for place, row in enumerate(base) if is_answered(row)]
    if not known:
        raise FinetuneError(f"The base model answered no row of {settings.file}.", "Ask again with: dvc repro baseline")
    base, tuned = ([rows[place] for place in known] for rows in (base, tuned))
    groups = [groups[place] for place in known] if groups else None
    before, after = (
        score(settings.task, [row["expected"] for row in rows], [*map(scored_text, rows)]) for rows in (base, tuned)
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
        "base_unanswered": failed[0],
        "tuned_unanswered": failed[1],
        "verdict": f"{verdict(after.metric, found, len(after.scores))}; {words}{unanswered_words(*failed)}",
    }
    if found["groups"] < len(after.scores):
        result["groups"] = found["groups"]
    return result


def unanswered_words(base: int, tuned: int) -> str:
    """Return how many rows have no answer, and what that means for the comparison; "" without any."""
    words = []
    if base:
        words.append(f"{rows_that(base)} the base did not answer {'is' if base == 1 else 'are'} left out")
    if tuned:
        words.append(f"{rows_that(tuned)} the tuned model did not answer count{'s' * (tuned == 1)} as wrong")
    return "".join(f"; {one}" for one in words)


def rows_that(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)} that"
