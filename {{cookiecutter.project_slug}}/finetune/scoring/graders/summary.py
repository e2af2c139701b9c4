"""Compute the scores of all graders for all models, from the answers and the replies on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.evaluated_models import set_model
from finetune.core.records import GraderReply, Prediction
from finetune.scoring.graders.by_model import grade_by_replies
from finetune.scoring.graders.definitions import Grader, ScoreModel, check_graders
from finetune.scoring.graders.local import Graded, grade
from finetune.scoring.mean_interval import interval
from finetune.scoring.paired_comparison import paired_difference


def grades_of_all(
    definitions: Mapping[str, Any],
    answers: Mapping[str, Sequence[Prediction]],
    replies: Sequence[GraderReply],
    groups: Sequence[int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return by grader the mean score of each model with its interval, and `lift` of tuned over base.

    `errors` counts the rows that a grader could not grade; their score is 0. `replies` are those of graders that ask a
    model. Raises FinetuneError for an invalid definition.
    """
    found: dict[str, dict[str, Any]] = {}
    for grader in check_graders(definitions):
        grades = {model: grades_of(grader, model, rows, replies) for model, rows in answers.items()}
        found[grader.name] = {}
        for model, graded in grades.items():
            low, high = interval(graded.scores, groups)
            score = {"score": round(sum(graded.scores) / len(graded.scores), 4), "low": low, "high": high}
            set_model(found[grader.name], model, score | ({"errors": len(graded.errors)} if graded.errors else {}))
        by = paired_difference(grades["base"].scores, grades["tuned"].scores, groups)
        lift = {"score": by["lift"], "low": by["low"], "high": by["high"], "p_value": by["p_value"]}
        found[grader.name]["lift"] = lift
    return found


def grades_of(grader: Grader, model: str, rows: Sequence[Prediction], replies: Sequence[GraderReply]) -> Graded:
    """Grade a model's answers by one grader."""
    if not isinstance(grader, ScoreModel):
        items = [{"asked": row["asked"], "expected": row["expected"]} for row in rows]
        return grade(grader, items, [row["answer"] for row in rows])
    texts = [row["reply"] for row in replies if row["grader"] == grader.name and row["model"] == model]
    if len(texts) != len(rows):
        raise FinetuneError(
            f"The grader {grader.name!r} has {len(texts)} replies to {len(rows)} answers of {model}.",
            "Ask it again with: dvc repro -f -s tuned",
        )
    return grade_by_replies(grader, texts)
