"""Fill the prompt template of `params.yaml` with the cells of a row."""

import hashlib
import json
import re
from collections.abc import Mapping, Set
from functools import lru_cache

from finetune.core.errors import FinetuneError
from finetune.data.cell_paths import cell_of
from finetune.data.raw_file import Row
from finetune.data.written_numbers import json_text

Message = dict[str, str]
Template = Mapping[str, str | None]  # the texts of system, user and assistant
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def fill(template: Template, row: Row) -> list[Message]:
    """Return the messages of one row. Braces inside a cell are not placeholders, and white space in a cell is kept.

    Raises ValueError where a message would be empty.
    """
    messages: list[Message] = []
    for role, text in template.items():
        if text is None:
            continue
        content = filled(text, row)
        if not content.strip():
            raise ValueError(empty(role, text))
        messages.append({"role": role, "content": content})
    return messages


def empty(role: str, text: str) -> str:
    """Return what is empty where a text of the template is, filled with the cells of a row."""
    columns = list(dict.fromkeys(PLACEHOLDER.findall(text)))
    if not columns:
        return f"data.prompt.{role} is empty"
    names = ", ".join(map(repr, columns))
    return f"the cell {names} is empty" if len(columns) == 1 else f"the cells {names} are empty"


def filled(text: str, row: Row) -> str:
    """Return a text of the template with the cells of a row, without the template's own white space at its ends."""
    parts = [cell_text(cell_of(row, part)) if is_cell else part for is_cell, part in parts_of(text)]
    own = [not is_cell for is_cell, _ in parts_of(text)]
    for order, strip in ((range(len(parts)), str.lstrip), (reversed(range(len(parts))), str.rstrip)):
        for index in order:
            if own[index]:
                parts[index] = strip(parts[index])
            if parts[index]:
                break
    return "".join(parts)


@lru_cache(maxsize=64)
def parts_of(text: str) -> list[tuple[bool, str]]:
    """Split a text of the template into columns (True) and the texts between them (False)."""
    return [(bool(index % 2), part) for index, part in enumerate(PLACEHOLDER.split(text))]


def fill_with(template: Template, row: Row, answer: str) -> list[Message]:
    """Return the messages of one row with `answer` as its answer. Raises ValueError for an empty message."""
    return [*fill({**template, "assistant": None}, row), {"role": "assistant", "content": answer}]


def columns_in(template: Template) -> list[str]:
    """Return the columns that a template names, each once."""
    return list(dict.fromkeys(name for text in template.values() for name in PLACEHOLDER.findall(text or "")))


def cell_text(value: object) -> str:
    """Return a cell as text: a string as it is, null as "", anything else as JSON with its numbers as written."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)


def check_columns(template: Template, columns: Set[str], source: str) -> None:
    """Raise FinetuneError for a column that the template names and the data do not have, or names without one brace."""
    for role, text in template.items():
        for column in PLACEHOLDER.findall(text or ""):
            check_column(f"data.prompt.{role}", column, columns, source)
        rest = PLACEHOLDER.sub("", text or "")
        for column in sorted(columns):
            if f"{{{{{column}}}}}" in (text or ""):
                raise FinetuneError(
                    f"data.prompt.{role} in params.yaml has {column!r} in two braces, and one stays in the text.",
                    f"Write {{{column}}}.",
                )
            if f"{{{column}" in rest or f"{column}}}" in rest:
                raise FinetuneError(
                    f"data.prompt.{role} in params.yaml has a brace beside {column!r} without its partner.",
                    f"Write {{{column}}}.",
                )


def check_column(key: str, column: str, columns: Set[str], source: str) -> None:
    """Raise FinetuneError for a column that the parameter `key` names and the data do not have."""
    if column not in columns:
        raise FinetuneError(
            f"{key} in params.yaml names the column {column!r}, which {source} lacks.",
            f"Its columns are: {', '.join(sorted(columns))}. Name one of them in {key}, or rename one in the file.",
        )


def fingerprint_of(template: Template | None, cell_map: Mapping[str, object] | None = None) -> str | None:
    """Return the SHA-256 of a template and data.map, by which a model is asked only with the prompt of its training."""
    if not template:
        return None
    decides = [template, cell_map] if cell_map else template
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
