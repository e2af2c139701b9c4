"""Read JSON and JSON Lines. The content decides which of the two a file is, not its suffix."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import orjson

from finetune.core.errors import FinetuneError
from finetune.data.examples import shape_of
from finetune.data.raw_file import Note, RawFile, Row

LONG_NUMBER = re.compile(r"(?<![\w.])-?\d{19,}(?![\w.])")  # may have more than 64 bits


def read_json(source: RawFile, note: Note) -> Iterable[Row]:
    """Read JSON or JSON Lines: a first line that is a JSON object shows that the file is JSON Lines."""
    named = "JSON Lines" if ".jsonl" in source.path.name.lower() else "JSON"
    first = [line for _, line in islice(source.lines(newline="\n"), 2)]
    if is_object(first[0] if first else "") and (len(first) > 1 or named == "JSON Lines"):
        note["format"] = "JSON Lines" if named == "JSON Lines" else "JSON Lines, named as JSON"
        return read_json_lines(source)
    with source.text(newline=None) as content:
        text = content.read().lstrip("\ufeff")
    try:
        whole = parse(text)
    except orjson.JSONDecodeError as error:
        if named == "JSON" and not is_object(first[0] if first else ""):
            raise FinetuneError(
                f"{source.path}, line {error.lineno}: not valid JSON: {orjson_message(error)}", "Correct that line."
            ) from error
        note["format"] = "JSON Lines"
        return read_json_lines(source)
    note["format"] = "JSON" if named == "JSON" else "JSON, named as JSON Lines"
    if isinstance(whole, dict) and shape_of(whole) is None:
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else whole  # the object has the list of rows under one of its keys
    rows = whole if isinstance(whole, list) else [whole]
    if has_repeated_keys(text, rows):
        refuse_repeated_keys(source, text)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise FinetuneError(
                f"{source.path}: item {number} is not an object.", 'Write each row as {"column": "cell"}.'
            )
    return rows


def is_object(line: str) -> bool:
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(line), dict)
    return False


def parse(text: str) -> Any:
    """Return the value of JSON. Integers of more than 64 bits stay exact, which orjson reads as rounded numbers."""
    value = orjson.loads(text)
    return json.loads(text) if LONG_NUMBER.search(text) else value


def has_repeated_keys(text: str, rows: Sequence[Any]) -> bool:
    """Return whether an object may have a key twice, by how often the text has the keys of its rows."""
    keys = Counter(key for row in rows if isinstance(row, dict) for key in row)
    return any(text.count(f'"{key}"') > times for key, times in keys.items())


def refuse_repeated_keys(source: RawFile, text: str, line: int = 0) -> None:
    """Raise FinetuneError if an object of JSON text has a key twice, at any depth. `line` is 0 for a whole document."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        key, times = Counter(key for key, _ in pairs).most_common(1)[0] if pairs else ("", 1)
        if times > 1:
            place = f", line {line}" if line else ""
            raise FinetuneError(f"{source.path}{place}: an object has the key {key!r} twice.", "Rename or remove one.")

    json.loads(text, object_pairs_hook=check)


def read_json_lines(source: RawFile) -> Iterator[Row]:
    with source.text(newline="\n") as text:  # texts may contain other line ends of Unicode
        rows = 0
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = parse(line.removeprefix("\ufeff") if number == 1 else line)
            except orjson.JSONDecodeError as error:
                raise FinetuneError(
                    f"{source.path}, line {number}: not valid JSON: {orjson_message(error)}", "Correct that line."
                ) from error
            if not isinstance(row, dict):
                raise FinetuneError(
                    f"{source.path}, line {number}: not a JSON object.", 'Write each row as {"column": "cell"}.'
                )
            if has_repeated_keys(line, [row]):
                refuse_repeated_keys(source, line, number)
            rows += 1
            source.places.add(rows, number)
            yield row


def orjson_message(error: orjson.JSONDecodeError) -> str:
    """Return orjson's message without the place, which is relative to the text that orjson was given."""
    return str(error).split(": line ")[0]
