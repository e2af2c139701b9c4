"""The questions that a model is asked before it is shut down: the rows of a file, or those it was trained with."""

import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from finetune.asking.file_rows import rows_of
from finetune.asking.row_prompts import has_own_format, questions_of
from finetune.core.callbacks import Say
from finetune.core.damage import open_file
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.read_records import read_prepare_report_if_there
from finetune.core.records.answers import RecordedAnswer
from finetune.data.cell_map import cell_map_of, map_cells
from finetune.data.examples import text_of
from finetune.data.identity import answer_of, question_hash
from finetune.data.identity import question_of as whole_question_of
from finetune.data.images import image_bytes, images_of, size_of
from finetune.data.prompts import fill
from finetune.data.raw_file import Row
from finetune.data.redaction import redact
from finetune.data.replay import read_replay
from finetune.data.token_counts import IMAGE_PRICES
from finetune.pricing.catalogue import Base
from finetune.provider.completion_request import Messages
from finetune.rescue.downloads import TRAINING, VALIDATION

GENERAL = "general chat of train.replay"
CALLS = "calls of tools"
TEMPLATE_TOKENS = 64  # that an unknown chat template may add, such as its own system message
MOST_TILES = 8  # of an image at high detail


@dataclass
class Asked:
    """Questions in their order, each with the answer in its file and its place; `left_out` counts rows by reason.

    Messages have their training weights. `todo` are the numbers of the questions to ask, and `again` the recorded
    answers to some of them, which were cut.
    """

    prompts: list[Messages] = field(default_factory=list)
    expected: list[str | None] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    todo: list[int] = field(default_factory=list)
    again: list[RecordedAnswer] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, prompt: Messages, expected: str | None, place: str) -> None:
        """Add a question, unless an equal one is there."""
        question = repr(without_weights(prompt))
        if question in self.seen:
            self.left_out["an equal question is asked already"] += 1
            return
        self.seen.add(question)
        self.prompts.append(prompt)
        self.expected.append(expected)
        self.places.append(place)


def questions_in_data(folder: Path, general: Collection[int] = ()) -> Asked:
    """Return the questions of the downloaded training and validation data, but those whose `key_of` is in `general`.

    A line that is no JSON object is left out: the provider's file is as it is, and the other rows are saved.
    """
    asked = Asked()
    for name in (TRAINING, VALIDATION):
        if not (folder / name).is_file():
            continue
        with open_file(folder / name) as lines:
            for number, line in enumerate(filter(bytes.strip, lines), 1):
                prompt, expected, why = question_in(line)
                if not why and name == TRAINING and general and key_of(list(prompt)) in general:
                    why = GENERAL
                if why:
                    asked.left_out[why] += 1
                else:
                    asked.add(prompt, expected, f"{name}:{number}")
    return asked


def replay_questions(params: Params, say: Say) -> frozenset[int]:
    """Return the `key_of` of each row of train.replay, which the training file has too, and which are not of the task.

    Where the file cannot be read, they are asked and trained on as the others, and a warning says so.
    """
    if params.train.replay is None:
        return frozenset()
    try:
        with tempfile.TemporaryFile() as spool:
            found = read_replay(params, params.train.replay, cast("BinaryIO", spool))
            return frozenset(question_hash(found.question(row)) for row in found.rows)
    except FinetuneError as error:
        say(f"warning: train.replay cannot be read, so its rows are taken as rows of the task. {error.what}")
        return frozenset()


def key_of(question: list[dict[str, Any]]) -> int:
    """Return the hash by which `prepare` takes two questions for the same."""
    return question_hash(whole_question_of({"messages": [*question, {"role": "assistant", "content": ""}]}))


def question_in(line: bytes) -> tuple[Messages, str | None, str]:
    """Return what `question_of` does, from a line of JSON Lines."""
    try:
        row = orjson.loads(line)
    except ValueError:
        row = None
    return question_of(row) if isinstance(row, dict) else ([], None, "no JSON object")


def questions_in_rows(params: Params, file: Path) -> Asked:
    """Return the questions of a user's file with the project's prompt, and the answers that it has."""
    asked, rows = Asked(), list(rows_of(params.data, file))
    pairs = zip(rows, questions_of(params, rows, file, None, tuned=False), strict=True)
    for number, (row, question) in enumerate(pairs, 1):
        prompt, declared = (question, {}) if isinstance(question, ValueError) else question
        if isinstance(prompt, ValueError | str) or declared:
            asked.left_out[CALLS if declared else str(prompt)] += 1
        else:
            asked.add(list(prompt), answer_in(params, row), f"{file.name}:{number}")
    return asked


def answer_in(params: Params, row: Row) -> str | None:
    """Return the right answer that a user's row has, as a model is trained to write it; None without one."""
    template = params.data.prompt.model_dump() if params.data.prompt else {}
    if not template or has_own_format(row, template, None):
        return answer_of(row) or None
    try:
        text = fill({"assistant": template["assistant"]}, map_cells(row, cell_map_of(params.data.map)))[0]["content"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    text = str(redact(text, params.data.redact))
    return read_prepare_report_if_there()["codes"].get(text) if params.data.codes else text


def question_of(row: dict[str, Any]) -> tuple[Messages, str | None, str]:
    """Return the messages before the last answer, and that answer; or why the row cannot be asked."""
    asked, preferred = row.get("input"), row.get("preferred_output")
    if isinstance(asked, dict):  # a pair of answers
        best = [{"role": "assistant", **one} for one in as_list(preferred)[-1:] if isinstance(one, dict)]
        row = {**asked, "messages": [*as_list(asked.get("messages")), *best]}
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages) or len(messages) < 2:
        return [], None, "no chat that ends with an answer"
    *question, answer = messages
    if any(row.get(key) for key in ("tools", "functions")) or any(
        one.get("tool_calls") or one.get("function_call") or one.get("role") in ("tool", "function") for one in messages
    ):
        return [], None, CALLS
    if answer.get("role") != "assistant":
        return [], None, "no chat that ends with an answer"
    if answer.get("weight") == 0:
        return [], None, "its last answer is not trained (weight 0)"
    return question, text_of(answer.get("content")), ""


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, and [] for another value."""
    return value if isinstance(value, list) else []


def without_weights(prompt: Messages) -> Messages:
    """Return messages as they are asked."""
    return [{key: value for key, value in one.items() if key != "weight"} for one in prompt]


def bound_of(prompt: Messages, base: Base, count: Any) -> int:
    """Return the tokens that a prompt has at most: counted where its tokenizer is known, else one for each byte.

    An image of an unknown size counts as the largest. Where the tokens of an image are not known, they do not count.
    """
    if not base.tokens_exact:
        return sum(len(str(one).encode()) + 8 for one in prompt) + TEMPLATE_TOKENS
    images = [image for message in prompt for image in images_of(message)] if base.image_tokens else []
    unknown = sum(one.get("detail") != "low" and size_of(image_bytes(one.get("url"))) is None for one in images)
    tiles: int = unknown * MOST_TILES * (base.image_tokens or IMAGE_PRICES)[1]
    return int(count({"messages": [*prompt, {"role": "assistant", "content": ""}]})) + tiles
