"""Read JSON and JSON Lines. The content decides which of the two a file is, not its suffix."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

import orjson

from finetune.core.errors import FinetuneError
from finetune.data.examples import shape_of
from finetune.data.raw_file import Note, RawFile, Row


def read_json(source: RawFile, note: Note) -> Iterable[Row]:
    """Read JSON or JSON Lines: a first line that is a JSON object shows that the file is JSON Lines."""
    named = "JSON Lines" if ".jsonl" in source.path.name.lower() else "JSON"
    first = list(islice(source.lines(newline="\n"), 2))
    if is_object(first[0] if first else "") and (len(first) > 1 or named == "JSON Lines"):
        note["format"] = "JSON Lines" if named == "JSON Lines" else "JSON Lines, named as JSON"
        return read_json_lines(source)
    with source.text(newline=None) as content:
        text = content.read().lstrip("\ufeff")
    try:
        whole = orjson.loads(text)
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


def read_json_lines(source: RawFile) -> Iterator[Row]:
    with source.text(newline="\n") as text:  # texts may contain other line ends of Unicode
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line.removeprefix("\ufeff") if number == 1 else line)
            except orjson.JSONDecodeError as error:
                raise FinetuneError(
                    f"{source.path}, line {number}: not valid JSON: {orjson_message(error)}", "Correct that line."
                ) from error
            if not isinstance(row, dict):
                raise FinetuneError(
                    f"{source.path}, line {number}: not a JSON object.", 'Write each row as {"column": "cell"}.'
                )
            yield row


def orjson_message(error: orjson.JSONDecodeError) -> str:
    """Return orjson's message without the place, which is relative to the text that orjson was given."""
    return str(error).split(": line ")[0]
