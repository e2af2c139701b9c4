"""Compute the scores of all graders for all models, from the answers and the replies on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.evaluated_models import set_model
from finetune.core.records.answers import GraderReply, Prediction
from finetune.scoring.graders.by_model import grade_by_replies
from finetune.scoring.graders.check_definitions import check_graders
from finetune.scoring.graders.definitions import Grader, LabelModel, Multi, ScoreModel
from finetune.scoring.graders.formula import output
from finetune.scoring.graders.local import Graded, grade, graded
from finetune.scoring.mean_interval import interval
from finetune.scoring.paired_comparison import paired_difference


def grades_of_all(
    definitions: Mapping[str, Any],
    answers: Mapping[str, Sequence[Prediction]],
    replies: Sequence[GraderReply],
    groups: Sequence[int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return by grader the mean score of each model with its interval, and `lift` of tuned over base.

    `errors` counts the rows that a grader could not grade; their score is the least of its range. `replies` are
    those of graders that ask a model. Raises FinetuneError for an invalid definition.
    """
    found: dict[str, dict[str, Any]] = {}
    for grader in check_graders(definitions):
        grades = {model: grades_of(grader, model, rows, replies) for model, rows in answers.items()}
        found[grader.name] = {}
        for model, one in grades.items():
            low, high = interval(one.scores, groups)
            score = {"score": round(sum(one.scores) / len(one.scores), 4), "low": low, "high": high}
            set_model(found[grader.name], model, score | ({"errors": len(one.errors)} if one.errors else {}))
        by = paired_difference(grades["base"].scores, grades["tuned"].scores, groups)
        lift = {"score": by["lift"], "low": by["low"], "high": by["high"], "p_value": by["p_value"]}
        found[grader.name]["lift"] = lift
    return found


def grades_of(grader: Grader, model: str, rows: Sequence[Prediction], replies: Sequence[GraderReply]) -> Graded:
    """Grade a model's answers by one grader."""
    if isinstance(grader, Multi):
        return combined(grader, [grades_of(one, model, rows, replies) for one in grader.graders.values()])
    if not isinstance(grader, (ScoreModel, LabelModel)):
        items = [{"asked": row["asked"], "expected": row["expected"]} for row in rows]
        return grade(grader, items, [row["answer"] for row in rows])
    texts = [row["reply"] for row in replies if row["grader"] == grader.name and row["model"] == model]
    if len(texts) != len(rows):
        raise FinetuneError(
            f"The grader {grader.name!r} has {len(texts)} replies to {len(rows)} answers of {model}.",
            "Ask it again with: dvc repro -f -s tuned",
        )
    return grade_by_replies(grader, texts)


def combined(grader: Multi, parts: Sequence[Graded]) -> Graded:
    """Return the value of a multi grader's formula for each row; a row that a part could not grade is an error."""
    found: list[float | str] = []
    for place, scores in enumerate(zip(*(one.scores for one in parts), strict=True)):
        reason = next((one.errors[place] for one in parts if place in one.errors), None)
        try:
            by_name = dict(zip(grader.graders, scores, strict=True))
            found.append(output(grader.calculate_output, by_name) if reason is None else reason)
        except (ArithmeticError, ValueError, TypeError) as error:
            found.append(str(error))
    return graded(found)
