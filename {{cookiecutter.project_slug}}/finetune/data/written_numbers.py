"""Read JSON whose numbers keep their spelling, and write them as they were: 10.50 stays 10.50, and 1e3 stays 1e3."""

import json
import re
from typing import Any

import orjson

# Numbers that Python may write in another way, and orjson may round: with a point, an exponent or many digits, and -0.
# Most rows have none, and this search is quicker than reading them twice.
MAY_CHANGE = re.compile(r"[0-9](?:\.[0-9]|[eE][-+0-9]|(?<=[0-9]{19})|(?<=-0))")
MANY_DIGITS = 19  # may have more than 64 bits, which orjson rounds


class WrittenFloat(float):
    """A number that remembers how it was written."""

    text: str


class WrittenInt(int):
    """A whole number that remembers how it was written, such as -0, or one of more than 64 bits."""

    text: str


def parse_json(text: str) -> Any:
    """Return the value of JSON. Numbers that Python would write in another way are a WrittenFloat or a WrittenInt.

    Integers of more than 64 bits stay exact. Raises orjson.JSONDecodeError.
    """
    value = orjson.loads(text)
    if not MAY_CHANGE.search(text):
        return value
    return json.loads(text, parse_float=written_float, parse_int=written_int)


def written_float(text: str) -> float:
    number = WrittenFloat(text)
    number.text = text
    return float(number) if float.__repr__(number) == text else number


def written_int(text: str) -> int:
    number = WrittenInt(text)
    number.text = text
    return number if text == "-0" or len(text) >= MANY_DIGITS else int(number)


def has_written(value: Any) -> bool:
    """Return whether a value, or a value inside it, is a number that remembers how it was written."""
    inside = [value]
    while inside:
        one = inside.pop()
        if isinstance(one, (WrittenFloat, WrittenInt)):
            return True
        if isinstance(one, dict):
            inside.extend(one.values())
        elif isinstance(one, list):
            inside.extend(one)
    return False


def json_text(value: Any) -> str:
    """Return a value as JSON, with its numbers as they were written."""
    if isinstance(value, (WrittenFloat, WrittenInt)):
        return value.text
    if not has_written(value):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json_text(str(key))}: {json_text(item)}' for key, item in value.items())}}}"
    return f"[{', '.join(map(json_text, value))}]"
