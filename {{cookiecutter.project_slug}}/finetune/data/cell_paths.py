"""Find a cell by the name of its column, or by a path into nested values, such as `answers.text[0]`."""

import re
from functools import lru_cache
from typing import Any

import orjson

from finetune.data.raw_file import Row
from finetune.data.written_numbers import parse_json

STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


def cell_of(row: Row, name: str) -> Any:
    """Return the cell of a column, or the value at the end of a path; None where there is none.

    A column with exactly this name comes first, then the longest one that the path begins with: names may have dots.
    Text on the way is read as JSON, as tables hold nested values.
    """
    if name in row:
        return row[name]
    for column, steps in beginnings_of(name):
        value: Any = row.get(column)
        for step in steps:
            value = step_into(value, step)
        if value is not None:
            return value
    return None


def column_of(row: Row, name: str) -> str | None:
    """Return the column of a row that `cell_of` reads; None if it has none."""
    return name if name in row else next((column for column, _ in beginnings_of(name) if column in row), None)


def step_into(value: Any, step: str | int) -> Any:
    """Return the member of an object, or the item of a list; None where there is none."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except orjson.JSONDecodeError:
            return None
    if isinstance(step, int):
        return value[step] if isinstance(value, list) and -len(value) <= step < len(value) else None
    return value.get(step) if isinstance(value, dict) else None


def root_of(name: str) -> str:
    """Return the shortest column that a path begins with; the name itself if it is no path."""
    beginnings = beginnings_of(name)
    return beginnings[-1][0] if beginnings else name


@lru_cache(1024)
def beginnings_of(path: str) -> tuple[tuple[str, tuple[str | int, ...]], ...]:
    """Return the columns that a path may begin with, the longest first, and the steps after each; () for no path."""
    found, end = list[tuple[int, str | int]](), 0
    for match in STEP.finditer(path):
        if match.start() != end:
            return ()
        end = match.end()
        found.append((end, match[1] if match[1] is not None else int(match[2])))
    if end != len(path) or not found or isinstance(found[0][1], int):
        return ()
    steps = tuple(step for _, step in found)
    columns = [str(steps[0]), *(path[:end] for end, _ in found[1:])]
    return tuple((column, steps[number:]) for number, column in reversed([*enumerate(columns, 1)]))
