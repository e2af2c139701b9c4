"""Rows become chat examples by the prompt template of `params.yaml`."""

import json
import re
from collections.abc import Mapping, Sequence

from finetune.data.readers import Row
from finetune.data.rules import Example
from finetune.errors import FinetuneError

Message = dict[str, str]
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def build_examples(rows: Sequence[Row], template: Mapping[str, str | None], source: str) -> list[Example]:
    """One chat example per row: the template's system, user and assistant texts with the row's cells in them.

    Raises FinetuneError for a column that the data lack, and for rows whose question or answer would be empty.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for role, text in template.items():
        for column in PLACEHOLDER.findall(text or ""):
            if column not in columns:
                raise FinetuneError(
                    f"data.prompt.{role} in params.yaml names the column {column!r}, which {source} lacks.",
                    f"Its columns are: {', '.join(columns)}.",
                )
    examples: list[Example] = [{"messages": fill(template, row)} for row in rows]
    empty = [n for n, e in enumerate(examples, 1) if not all(m["content"].strip() for m in e["messages"])]
    if empty:
        shown = ", ".join(map(str, empty[:10])) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
        raise FinetuneError(f"{source}: rows with nothing to ask or to answer: {shown}.", "Fill or remove these rows.")
    return examples


def fill(template: Mapping[str, str | None], row: Row) -> list[Message]:
    """The messages of one row. A cell is put in as it is: braces inside it stand for themselves."""
    return [
        {"role": role, "content": PLACEHOLDER.sub(lambda match: cell_text(row.get(match[1])), text).strip()}
        for role, text in template.items()
        if text is not None
    ]


def cell_text(value: object) -> str:
    """A cell as text: texts as they are, null as nothing, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
