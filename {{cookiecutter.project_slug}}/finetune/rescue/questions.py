"""The questions that a model is asked before it is shut down: the rows of a file, or those it was trained with."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.asking.file_rows import rows_of
from finetune.asking.row_prompts import prompts_of
from finetune.core.disk import each_jsonl
from finetune.core.params import Params
from finetune.data.examples import text_of
from finetune.pricing.catalogue import Base
from finetune.provider.completion_request import Messages
from finetune.rescue.downloads import TRAINING, VALIDATION

TEMPLATE_TOKENS = 64  # that an unknown chat template may add, such as its own system message


@dataclass
class Asked:
    """Questions in their order, each with the answer in its file and its place; `left_out` counts rows by reason."""

    prompts: list[Messages] = field(default_factory=list)
    expected: list[str | None] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def questions_in(params: Params, folder: Path, rows: Path | None) -> Asked:
    """Return the questions of a file with the project's prompt, or those of the downloaded data. Equal ones are one."""
    asked, seen = Asked(), set[str]()

    def add(prompt: Messages, expected: str | None, place: str) -> None:
        if repr(prompt) in seen:
            asked.left_out["an equal question is asked already"] += 1
            return
        seen.add(repr(prompt))
        asked.prompts.append(prompt)
        asked.expected.append(expected)
        asked.places.append(place)

    if rows:
        reader = rows_of(params.data, rows)
        for number, prompt in enumerate(prompts_of(params, list(reader), rows, None, tuned=False), 1):
            if isinstance(prompt, ValueError | str):
                asked.left_out[f"no question: {prompt}"] += 1
            else:
                add(prompt, None, f"{rows.name}:{number}")
        return asked
    for name in (TRAINING, VALIDATION):
        if (folder / name).is_file():
            for number, row in enumerate(each_jsonl(folder / name, "finetune rescue save"), 1):
                prompt, expected, why = question_of(row)
                if why:
                    asked.left_out[why] += 1
                else:
                    add(prompt, expected, f"{name}:{number}")
    return asked


def question_of(row: dict[str, Any]) -> tuple[Messages, str | None, str]:
    """Return the messages before the last answer, and that answer; or why the row cannot be asked."""
    if isinstance(row.get("input"), dict):  # a pair of answers
        preferred = (row.get("preferred_output") or [{}])[-1]
        row = {**row["input"], "messages": [*row["input"].get("messages", []), {"role": "assistant", **preferred}]}
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2 or messages[-1].get("role") != "assistant":
        return [], None, "no chat that ends with an answer"
    if row.get("tools") or any(one.get("tool_calls") or one.get("role") == "tool" for one in messages):
        return [], None, "calls of tools"
    prompt = [{key: value for key, value in one.items() if key != "weight"} for one in messages[:-1]]
    return prompt, text_of(messages[-1].get("content")), ""


def bound_of(prompt: Messages, base: Base, count: Any) -> int:
    """Return the tokens that a prompt has at most: counted where its tokenizer is known, else one for each byte."""
    if base.tokens_exact:
        return int(count({"messages": [*prompt, {"role": "assistant", "content": ""}]}))
    return sum(len(str(one).encode()) + 8 for one in prompt) + TEMPLATE_TOKENS
