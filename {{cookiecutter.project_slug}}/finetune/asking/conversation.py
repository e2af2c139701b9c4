"""chat: the same conversation with several models at once, each with its own answers in its history."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any

import orjson

from finetune.asking.file_rows import columns_in, fixed_columns, frame_of, model_named
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.data.examples import turn_texts
from finetune.data.prompts import PLACEHOLDER, fill
from finetune.provider.answer_cache import Answer, answer_of
from finetune.provider.completions import request_of
from finetune.provider.connect import Connection, mendable_errors
from finetune.stages.evaluate import codes

Turns = list[dict[str, Any]]


@dataclass
class Conversation:
    """What was said so far; `models` has the name to ask each by, under the name that it is shown by."""

    models: dict[str, str]
    system: str | None
    turns: dict[str, Turns] = field(default_factory=dict)


def begin(params: Params, names: Sequence[str]) -> Conversation:
    """A conversation with the named models (as in `model_named`) under the project's system prompt."""
    return Conversation({name: model_named(params, name) for name in names}, system_prompt(params))


def system_prompt(params: Params) -> str | None:
    """What the project's examples begin with: by the template, or else as in the first training example.

    Columns that a system prompt names stay as they are: there is no row to fill them from.
    """
    if params.data.target == "completion":
        return None
    if params.data.prompt:
        fixed = fixed_columns(params)
        text = PLACEHOLDER.sub(lambda match: fixed.get(match[1], match[0]), params.data.prompt.system or "")
        return text.strip() or None
    path = PREPARED / "train.jsonl"
    try:
        with open(path, "rb") as lines:
            return turn_texts(orjson.loads(next(lines, b"{}")))[1]
    except FileNotFoundError:
        raise FinetuneError(f"{path} is missing.", "Make it with: dvc repro prepare") from None


def question(params: Params, typed: str) -> str:
    """What is typed, put into the user's prompt of the template if that has one column; else as it is."""
    template = {"user": params.data.prompt.user} if params.data.prompt else {}
    fixed = fixed_columns(params)
    columns = [column for column in columns_in(template) if column not in fixed]
    return fill(template, {**fixed, columns[0]: typed})[0]["content"] if len(columns) == 1 else typed


def say(
    conversation: Conversation, connection: Connection, params: Params, typed: str, max_tokens: int | None = None
) -> dict[str, Answer]:
    """Each model's answer to what is typed, all asked at once; an `error` in its place where the provider has none.

    A model that did not answer was not asked: its history is as before. So are all, if this is interrupted.
    """
    settings = params.evaluate.model_copy(update={"max_tokens": max_tokens or params.evaluate.max_tokens})
    frame, asked = frame_of(params), question(params, typed)
    stop = frame.stop if frame else None
    turn = {"role": "user", "content": asked}
    before: Turns = [{"role": "system", "content": conversation.system}] if conversation.system else []

    def answer(name: str, model: str) -> Answer:
        told = asked + frame.separator if frame else [*before, *conversation.turns.get(name, []), turn]
        return ask(connection, request_of(connection, model, told, settings, params.train.seed, stop))

    answers = {name: started(answer, name, model) for name, model in conversation.models.items()}
    while wait(answers.values(), timeout=0.2).not_done:  # with a timeout, Ctrl-C is heard on every system
        pass
    found = {name: future.result() for name, future in answers.items()}
    for name, one in found.items():
        if not one.error:
            said = {"role": "assistant", "content": one.text}
            conversation.turns[name] = [*conversation.turns.get(name, []), turn, said]
    classes = codes() if params.data.codes else {}
    return {name: replace(one, text=spelled(one.text.strip(), classes)) for name, one in found.items()}


def started(work: Callable[[str, str], Answer], name: str, model: str) -> "Future[Answer]":
    """The answer to come, from a thread that nobody waits for when the program ends."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work(name, model))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def ask(connection: Connection, request: dict[str, Any]) -> Answer:
    """One answer, now; the provider's errors, in a sentence, as one that there is none."""
    client = connection.client
    api = client.completions if "prompt" in request else client.chat.completions
    began = time.monotonic()
    try:
        with mendable_errors(client, connection.profile):
            answer = api.with_raw_response.create(**request)
            return answer_of(json.loads(answer.content), time.monotonic() - began)
    except FinetuneError as error:
        return Answer("", error=str(error))


def spelled(text: str, classes: dict[str, str]) -> str:
    """An answer with its class behind it, where it is a code."""
    return f"{text} = {classes[text]}" if text in classes else text
