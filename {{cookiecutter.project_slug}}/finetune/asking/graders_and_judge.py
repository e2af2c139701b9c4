"""Ask models for their opinion on answers: graders that ask a model, and the judge."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from finetune.core.params import Params
from finetune.core.records.answers import GraderReply, JudgeReply, Prediction
from finetune.core.records.settings import Questions
from finetune.provider.completion_request import reasons, taken_by_model
from finetune.provider.completions import ask_all
from finetune.provider.connect import Connection
from finetune.provider.refused_parameters import refused
from finetune.scoring.graders.by_model import grader_request
from finetune.scoring.graders.check_definitions import check_grader
from finetune.scoring.graders.definitions import model_graders
from finetune.scoring.judge import INSTRUCTIONS, judge_messages
from finetune.terminal.progress import progress_bar, say

JUDGE_TOKENS = 400  # of a reply; the judge is asked for one word, but some explain
REASONING_TOKENS = 4_000  # where the thoughts before a reply count as well


def ask_graders(
    connection: Connection, params: Params, questions: Questions, answers: Mapping[str, Sequence[Prediction]]
) -> list[GraderReply]:
    """Ask each grader about each answer of each model; a row for each reply, in this order."""
    replies: list[GraderReply] = []
    for name, definition in questions["graders"].items():
        found_graders = model_graders(check_grader(name, definition))
        for grader, (model, rows) in product(found_graders, answers.items()):
            items = [{"asked": row["asked"], "expected": row["expected"]} for row in rows]
            requests = [taken_by_model(grader_request(grader, *pair)) for pair in zip(items, texts(rows), strict=True)]
            found = ask(connection, params, f"grade {grader.name}", requests)
            replies += [{"grader": grader.name, "model": model, "reply": reply} for reply in found]
    return replies


def ask_judge(
    connection: Connection,
    params: Params,
    questions: Questions,
    base: Sequence[Prediction],
    tuned: Sequence[Prediction],
) -> list[JudgeReply]:
    """Ask the judge about each pair of answers, in both orders; [] without `evaluate.judge`."""
    judge = questions["judge"]
    if judge is None:
        return []
    asked, expected = [row["asked"] for row in base], [row["expected"] for row in base]
    messages = judge_messages(asked, expected, texts(base), texts(tuned), judge["instructions"] or INSTRUCTIONS)
    model = judge["model"]
    assert model is not None
    tokens = REASONING_TOKENS if reasons(model) else JUDGE_TOKENS
    same = {"model": model, "temperature": 0, "seed": questions["seed"], connection.profile.max_tokens_name: tokens}
    requests = [{**taken_by_model(same), "messages": one} for one in messages]
    return [{"reply": reply} for reply in ask(connection, params, "judge", requests)]


def texts(rows: Sequence[Prediction]) -> list[str]:
    """Return the answers of rows."""
    return [row["answer"] for row in rows]


def ask(connection: Connection, params: Params, title: str, requests: Sequence[dict[str, Any]]) -> list[str | None]:
    """Return the reply to each request; None if it was refused."""
    with progress_bar(title) as progress:
        answers = ask_all(connection, requests, params.evaluate, progress, say)
    for model in sorted({str(request["model"]) for request in requests}):
        if names := refused(connection.client, model):
            say(f"{title}: {model} was asked without {', '.join(sorted(names))}, which the server refuses for it.")
    return [None if answer.error else answer.text for answer in answers]
