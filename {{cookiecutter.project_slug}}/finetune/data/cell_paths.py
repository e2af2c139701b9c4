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

    A column with exactly this name comes first. Text on the way is read as JSON, as tables hold nested values.
    """
    if name in row:
        return row[name]
    value: Any = row
    for step in steps_of(name):
        value = step_into(value, step)
        if value is None:
            break
    return None if value is row else value


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
    """Return the column that a path begins with; the name itself if it is no path."""
    steps = steps_of(name)
    return str(steps[0]) if steps else name


@lru_cache(1024)
def steps_of(path: str) -> tuple[str | int, ...]:
    """Return the keys and indices of a path; () if it is not one."""
    steps, end = list[str | int](), 0
    for match in STEP.finditer(path):
        if match.start() != end:
            return ()
        steps.append(match[1] if match[1] is not None else int(match[2]))
        end = match.end()
    return tuple(steps) if end == len(path) else ()
