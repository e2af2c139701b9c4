"""Read the examples of a file that is JSON, but not JSON Lines: a list, or objects over several lines."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass

import orjson

BETWEEN = re.compile(r"[\s,]*")
DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Values:
    """The JSON values that follow each other in a text, with spaces, line ends or commas between them."""

    texts: list[str]
    lines: list[int]  # where each begins, from 1
    is_list: bool  # they are in brackets
    broken_line: int | None  # the line, from 1, that could not be read; None if everything was read

    @property
    def over_lines(self) -> bool:
        return any("\n" in text for text in self.texts)


def values_of(content: bytes) -> Values | None:
    """Read the values of a text: objects, or the items of one list. None if it is not UTF-8."""
    try:
        return values_in(content.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def values_in(text: str) -> Values:
    """Read the values of a text: objects, or the items of one list."""
    texts: list[str] = []
    lines, line, counted = list[int](), 1, 0  # `line` is that of the place `counted`
    place = after_spaces(text, 0)
    is_list = is_open = text.startswith("[", place)
    if is_list:
        place = after_spaces(text, place + 1)
    while place < len(text):
        if is_open and text[place] == "]":
            is_open, place = False, after_spaces(text, place + 1)
            break
        if not is_list and text[place] != "{":
            break
        try:
            end = DECODER.raw_decode(text, place)[1]
        except json.JSONDecodeError as error:
            place = error.pos
            break
        except RecursionError:
            break
        if not is_json(text[place:end]):
            break
        line, counted = line + text.count("\n", counted, place), place
        lines.append(line)
        texts.append(text[place:end])
        place = after_spaces(text, end)
    if place < len(text):
        return Values(texts, lines, is_list, text.count("\n", 0, place) + 1)
    # A list without its end may be cut off.
    return Values(texts, lines, is_list, text.rstrip().count("\n") + 1 if is_open else None)


def after_spaces(text: str, place: int) -> int:
    found = BETWEEN.match(text, place)
    return found.end() if found else place


def is_json(text: str) -> bool:
    """Return whether a text is JSON for a server too: Python reads NaN and halves of surrogate pairs."""
    with suppress(orjson.JSONDecodeError):
        orjson.loads(text)
        return True
    return False


def on_one_line(text: str) -> bytes:
    """Return a JSON value without line ends. JSON has none in its strings, so no string changes."""
    return b" ".join(part.strip() for part in text.encode().splitlines())
