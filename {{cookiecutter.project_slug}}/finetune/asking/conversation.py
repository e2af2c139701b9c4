"""chat: the same conversation with several models at once, each with its own answers as its history."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any

import orjson

from finetune.asking.model_names import name_of
from finetune.asking.row_prompts import completion_format, redacted_kinds, shared_columns
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.read_records import read_prepare_report
from finetune.data.completion_format import prompt_of_question
from finetune.data.examples import as_chat, declared_in, turn_texts
from finetune.data.prompts import PLACEHOLDER, columns_in, fill
from finetune.data.redaction import redact
from finetune.provider.answer_parser import Answer
from finetune.provider.completion_request import CompletionRequest, completion_request
from finetune.provider.connect import Connection
from finetune.provider.error_messages import explained_errors
from finetune.provider.rate_limits import RateLimiter
from finetune.provider.retries import request_answer
from finetune.scoring.prediction_scores import class_of_code
from finetune.terminal.progress import say

Turns = list[dict[str, Any]]


@dataclass
class Conversation:
    """The turns so far. `models` maps the name that is shown to the name to ask the model by."""

    models: dict[str, str]
    system: str | None
    turns: dict[str, Turns] = field(default_factory=dict)


def begin(params: Params, names: Sequence[str]) -> Conversation:
    """Begin a conversation with models (`tuned`, `base` or IDs) under the project's system prompt."""
    return Conversation({name: name_of(params, name) for name in names}, system_prompt(params))


def system_prompt(params: Params) -> str | None:
    """Return the system prompt of the template, or of the first training example if there is no template.

    Columns in a system prompt stay as they are: there is no row to fill them from.
    """
    if params.data.target == "completion":
        return None
    if params.data.prompt:
        fixed = shared_columns(params)
        text = PLACEHOLDER.sub(lambda match: fixed.get(match[1], match[0]), params.data.prompt.system or "")
        return text.strip() or None
    path = PREPARED / "train.jsonl"
    try:
        with open(path, "rb") as lines:
            first = orjson.loads(next(lines, b"{}"))
    except FileNotFoundError:
        raise FinetuneError(f"{path} is missing.", "Create it with: dvc repro prepare") from None
    if declared_in(as_chat(first)):
        say("warning: the training rows declare tools; the question is asked without. With tools: finetune predict")
    return turn_texts(first)[1]


def question(params: Params, typed: str) -> str:
    """Return the typed text in the template's user prompt, if that has exactly one column; else as it is."""
    template = {"user": params.data.prompt.user} if params.data.prompt else {}
    fixed = shared_columns(params)
    columns = [column for column in columns_in(template) if column not in fixed]
    return fill(template, {**fixed, columns[0]: typed})[0]["content"] if len(columns) == 1 else typed


def send(
    conversation: Conversation, connection: Connection, params: Params, typed: str, max_tokens: int | None = None
) -> dict[str, Answer]:
    """Ask all models at once, and return each one's answer; it has an `error` if the provider refused.

    The history of a model that did not answer stays as before; if this is interrupted, so does that of all.
    """
    settings = params.evaluate.model_copy(update={"max_tokens": max_tokens or params.evaluate.max_tokens})
    marks, asked = completion_format(params), question(params, typed)
    stop, kinds = marks.stop if marks else None, redacted_kinds(params)
    turn = {"role": "user", "content": asked}
    before: Turns = [{"role": "system", "content": conversation.system}] if conversation.system else []

    def answer(name: str, model: str) -> Answer:
        prompt = prompt_of_question(asked, marks) if marks else [*before, *conversation.turns.get(name, []), turn]
        request = completion_request(connection, model, redact(prompt, kinds), settings, params.train.seed, stop)
        return ask(connection, request, limiter)

    limiter = RateLimiter(len(conversation.models))
    answers = {name: run_in_thread(answer, name, model) for name, model in conversation.models.items()}
    try:
        while wait(answers.values(), timeout=0.2).not_done:  # with a timeout, Ctrl-C works on every system
            pass
    finally:
        limiter.stop()  # after Ctrl-C, no request is sent again
    found = {name: future.result() for name, future in answers.items()}
    for name, one in found.items():
        if not one.error:
            reply = {"role": "assistant", "content": one.text}
            conversation.turns[name] = [*conversation.turns.get(name, []), turn, reply]
    classes = class_of_code(read_prepare_report()) if params.data.codes else {}
    return {name: replace(one, text=with_class_name(one.text.strip(), classes)) for name, one in found.items()}


def run_in_thread(work: Callable[[str, str], Answer], name: str, model: str) -> "Future[Answer]":
    """Start a thread that does not delay the end of the program, and return the future answer."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work(name, model))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def ask(connection: Connection, request: CompletionRequest, limiter: RateLimiter) -> Answer:
    """Return the answer to one request; an error of the provider becomes an answer with an `error`."""
    try:
        with explained_errors(connection.client, connection.profile):
            return request_answer(connection.client, request, limiter)
    except FinetuneError as error:
        return Answer("", error=str(error))


def with_class_name(text: str, classes: dict[str, str]) -> str:
    """Return an answer, followed by its class if it is a code."""
    return f"{text} = {classes[text]}" if text in classes else text
