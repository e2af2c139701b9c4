"""Rows become chat examples by the prompt template of `params.yaml`: here, and nowhere else."""

import hashlib
import json
import re
from collections.abc import Mapping, Set

from finetune.core.errors import FinetuneError
from finetune.data.readers import Row

Message = dict[str, str]
Template = Mapping[str, str | None]  # the texts of system, user and assistant
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def fill(template: Template, row: Row) -> list[Message]:
    """The messages of one row. A cell is put in as it is: braces inside it stand for themselves.

    Raises ValueError where a message would be empty.
    """
    messages = [
        {"role": role, "content": PLACEHOLDER.sub(lambda match: cell_text(row.get(match[1])), text).strip()}
        for role, text in template.items()
        if text is not None
    ]
    if not all(message["content"] for message in messages):
        raise ValueError("nothing to ask or to answer")
    return messages


def fill_with(template: Template, row: Row, answer: str) -> list[Message]:
    """The messages of one row, with another answer than its own. Raises ValueError where a message would be empty."""
    return [*fill({**template, "assistant": None}, row), {"role": "assistant", "content": answer}]


def cell_text(value: object) -> str:
    """A cell as text: texts as they are, null as nothing, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_columns(template: Template, columns: Set[str], source: str) -> None:
    """Raises FinetuneError for a column that a template names and the data lack."""
    for role, text in template.items():
        for column in PLACEHOLDER.findall(text or ""):
            check_column(f"data.prompt.{role}", column, columns, source)


def check_column(key: str, column: str, columns: Set[str], source: str) -> None:
    """Raises FinetuneError for a column that a parameter names and the data lack."""
    if column not in columns:
        raise FinetuneError(
            f"{key} in params.yaml names the column {column!r}, which {source} lacks.",
            f"Its columns are: {', '.join(sorted(columns))}.",
        )


def fingerprint_of(template: Template | None) -> str | None:
    """The SHA-256 of a template: what was trained with one prompt is to be asked with the same."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest() if template else None
