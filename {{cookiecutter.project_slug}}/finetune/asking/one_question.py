"""ask: ask a model one question, with the prompt of the training and as `predict` asks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from finetune.asking.conversation import system_prompt
from finetune.asking.file_rows import answer_rows
from finetune.asking.model_names import name_of
from finetune.asking.row_prompts import completion_format, questions_of, shared_columns
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.data.prompts import columns_in
from finetune.data.raw_file import Row
from finetune.data.written_numbers import parse_json


def ask(params: Params, question: str, choice: str) -> tuple[Row, bool]:
    """Return the answer to a question as `predict` writes it, with the model's name, and whether it was cut.

    `choice` is `tuned`, `base` or a model's ID. Raises FinetuneError if the question cannot be asked, or is refused.
    """
    row = row_of(params, question)
    model = name_of(params, choice)
    (asked,) = questions_of(params, [row], Path("the question"), completion_format(params), tuned=choice == "tuned")
    if isinstance(asked, ValueError):
        raise FinetuneError(f"The question cannot be asked: {asked}.", "Correct it, or data.prompt in params.yaml.")
    (found,), cut = answer_rows(params, model, [asked], lambda *_: None)
    return {"model": model, **found}, bool(cut)


def row_of(params: Params, question: str) -> Row:
    """Return a question as a row of a user's file: its text in the only column of data.prompt, or a JSON object.

    Without data.prompt, the system prompt of the training is put before it. Raises FinetuneError if the prompt has
    several columns, and the question is no JSON object with them.
    """
    if not params.data.prompt:
        system = system_prompt(params)
        turns = [{"role": "system", "content": system}] if system else []
        return {"messages": [*turns, {"role": "user", "content": question}]}
    template: Mapping[str, Any] = params.data.prompt.model_dump(include={"system", "user"})
    columns = [name for name in columns_in(template) if name not in shared_columns(params)]
    if len(columns) == 1:
        return {columns[0]: question}
    try:
        row = parse_json(question)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise FinetuneError(
            f"data.prompt in params.yaml has {len(columns)} columns: {', '.join(columns)}.",
            f"Give the question as a JSON object with these keys: {orjson.dumps(dict.fromkeys(columns, '…')).decode()}",
        )
    return row
