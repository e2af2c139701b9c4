"""What graders and a judge say of the answers, where `evaluate.graders` and `evaluate.judge` ask for them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.asking.test_rows import Rows
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.provider.completions import ask_all
from finetune.provider.connect import Connection
from finetune.scoring import judge
from finetune.scoring.graders import Graded, Grader, ScoreModel, check_grader, grade, graded_by_model, request_for
from finetune.scoring.paired_comparison import interval, lift
from finetune.terminal.progress import progress_bar, say

WORDS = 400  # tokens of a judge's reply; it is asked for one word, but some explain


def graders_of(params: Params) -> list[Grader]:
    """The graders of the project. Raises FinetuneError for a definition that is amiss, before anything is asked."""
    for name in params.evaluate.graders:
        if not re.fullmatch(r"\w+", name):
            raise FinetuneError(f"evaluate.graders: {name!r} is no name.", "Take letters, digits and underscores.")
    return [check_grader(name, definition) for name, definition in params.evaluate.graders.items()]


def add_grades(
    connection: Connection, params: Params, graders: Sequence[Grader], rows: Mapping[str, Rows], metrics: dict[str, Any]
) -> None:
    """Add each grader's mean score with its interval to every model's metrics, and the difference to `lift`.

    `<grader>_errors` counts rows that it could not grade, which have a score of 0. Raises FinetuneError where a grader
    is named as a metric that is there already.
    """
    for grader in graders:
        if grader.name in metrics["tuned"]:
            raise FinetuneError(f"evaluate.graders: {grader.name!r} is a metric already.", "Name the grader otherwise.")
        found = {name: grades(connection, params, grader, answers) for name, answers in rows.items()}
        for name, one in found.items():
            low, high = interval(one.scores)
            mean = round(sum(one.scores) / len(one.scores), 4)
            metrics[name] |= {grader.name: mean, f"{grader.name}_low": low, f"{grader.name}_high": high}
            if one.errors:
                metrics[name] |= {f"{grader.name}_errors": len(one.errors)}
        by = lift(found["base"].scores, found["tuned"].scores)
        metrics["lift"] |= {grader.name: by["lift"]} | {
            f"{grader.name}_{key}": by[key] for key in ("low", "high", "p_value")
        }


def grades(connection: Connection, params: Params, grader: Grader, rows: Rows) -> Graded:
    """A grader's score of each row's answer."""
    if not isinstance(grader, ScoreModel):
        return grade(grader, rows, [row["answer"] for row in rows])
    requests = [request_for(grader, row, row["answer"]) for row in rows]
    return graded_by_model(grader, replies(connection, params, f"grade {grader.name}", requests))


def judged(connection: Connection, params: Params, base: Rows, tuned: Rows) -> dict[str, Any]:
    """What the judge says of tuned against base, as `judge`; nothing where there is none."""
    settings = params.evaluate.judge
    if settings is None:
        return {}
    asked, expected, ones = ([row[key] for row in base] for key in ("asked", "expected", "answer"))
    messages = judge.requests_for(
        asked, expected, ones, [row["answer"] for row in tuned], settings.instructions or judge.INSTRUCTIONS
    )
    same = {"model": settings.model, "temperature": 0, "seed": params.train.seed}
    requests = [{**same, connection.profile.max_tokens_name: WORDS, "messages": one} for one in messages]
    return {"judge": {"n": len(base), **judge.verdicts(replies(connection, params, "judge", requests))}}


def replies(connection: Connection, params: Params, title: str, requests: Sequence[dict[str, Any]]) -> list[str | None]:
    """What a model replies to each request; None where it was refused."""
    with progress_bar(title) as progress:
        answers = ask_all(connection, requests, params.evaluate, progress, say)
    return [None if answer.error else answer.text for answer in answers]
