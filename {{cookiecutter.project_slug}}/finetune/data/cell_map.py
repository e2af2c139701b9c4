"""Apply `data.map`: cells are renamed, or lists are written as lettered lines."""

import re
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any, Literal

from finetune.core.errors import FinetuneError
from finetune.data.cell_paths import cell_of
from finetune.data.converters.values import as_list, has_value
from finetune.data.prompts import cell_text
from finetune.data.raw_file import Row
from finetune.data.redaction import shown

Renames = Mapping[str, str]  # by the text of a value, see `value_text`
CellMap = Mapping[str, Renames | Literal["lettered"]]  # by column or path
WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")


def cell_map_of(changes: Mapping[str, Mapping[Any, str] | Literal["lettered"]]) -> CellMap:
    """Return data.map with the text of each value, so that 0 in YAML is also the cell "0" of a table.

    Raises FinetuneError for a value that is listed twice.
    """
    return {name: change if isinstance(change, str) else renames_of(name, change) for name, change in changes.items()}


def renames_of(name: str, change: Mapping[Any, str]) -> Renames:
    """Return the new names by the text of their values."""
    renames: dict[str, str] = {}
    for value, new in change.items():
        if renames.setdefault(value_text(value), new) != new:
            raise FinetuneError(
                f"data.map.{name} in params.yaml lists the value {value_text(value)!r} twice.", "Remove one of them."
            )
    return renames


def map_cells(row: Row, cell_map: CellMap) -> Row:
    """Return a row with its cells mapped; that of a path is a new column with the path as its name.

    A cell without a value stays as it is. Raises ValueError for a value that the map does not list, and for a cell that
    is not a list.
    """
    if not cell_map:
        return row
    mapped = dict(row)
    for name, change in cell_map.items():
        cell = cell_of(row, name)
        if has_value(cell):
            mapped[name] = lettered(cell, name) if isinstance(change, str) else renamed(cell, change, name)
    return mapped


def lettered(cell: object, name: str) -> str:
    """Return the items of a list as lines that begin with a letter, such as "A. yes"."""
    items = as_list(cell, name)
    if len(items) > len(ascii_uppercase):
        raise ValueError(f"{name} has {len(items)} items, more than there are letters")
    if any(isinstance(item, (list, dict)) for item in items):
        raise ValueError(f"{name} has items that are not texts: name the path to the list of texts")
    return "\n".join(f"{letter}. {cell_text(item)}" for letter, item in zip(ascii_uppercase, items, strict=False))


def renamed(cell: object, renames: Renames, name: str) -> str:
    """Return the new name of a cell."""
    value = value_text(cell)
    if value not in renames:
        raise ValueError(f"data.map.{name} does not list the value {shown(value)}")
    return renames[value]


def value_text(value: object) -> str:
    """Return a value as text, the same for 1, 1.0 and "1", and for true and "True"."""
    text = cell_text(float(value) if isinstance(value, float) else value).strip()  # a number without its spelling
    if whole := WHOLE_FLOAT.fullmatch(text):
        return whole[1]
    return text.lower() if text.lower() in ("true", "false") else text
