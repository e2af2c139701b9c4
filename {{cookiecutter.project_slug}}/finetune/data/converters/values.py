"""Read the values of a row: texts exactly as they are, and lists, which a table holds as JSON text."""

import re
from typing import Any

import orjson

from finetune.data.prompts import cell_text
from finetune.data.written_numbers import parse_json

LIST_OF_MESSAGES = re.compile(r"\s*\[\s*\{\s*['\"](?:role|content)['\"]\s*:")  # JSON, or a list that Python printed


def has_value(value: object) -> bool:
    """Return whether a cell has a value: it is not null, blank, an empty list or an empty object."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value != [] and value != {}


def as_list(value: object, name: str) -> list[Any]:
    """Return a list, also one that is JSON text. Raises ValueError for anything else."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except orjson.JSONDecodeError:
            raise ValueError(f"{name} is not a list, nor JSON of one") from None
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def nonempty_list(value: object, name: str) -> list[Any]:
    found = as_list(value, name) if has_value(value) else []
    if not found:
        raise ValueError(f"{name} is empty")
    return found


def nonempty_text(value: object, name: str) -> str:
    """Return a value as text, with the white space at its ends; a number or an object is written as JSON."""
    if isinstance(value, list):
        raise ValueError(f"{name} is a list, not a text")
    text = cell_text(value)
    if not text.strip():
        raise ValueError(f"{name} is empty")
    return text


def plain_text(value: object, name: str) -> str:
    """Return a value as text. Raises ValueError for text that holds a list of messages, as tables have it."""
    text = nonempty_text(value, name)
    if LIST_OF_MESSAGES.match(text):
        raise ValueError(f"{name} is text that holds a list of messages: write the list itself, in JSON Lines")
    return text


def answer_text(value: object, name: str) -> str:
    """Return an answer as text. Raises ValueError for a list, which may be the answer or several answers."""
    if isinstance(value, list):
        raise ValueError(
            f"{name} is a list: keep one answer, or, if the list is the answer, write {{{name}}} in data.prompt"
        )
    return plain_text(value, name)
