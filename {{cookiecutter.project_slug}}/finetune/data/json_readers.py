"""Read JSON and JSON Lines. The content decides which of the two a file is, not its suffix."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import orjson

from finetune.core.errors import FinetuneError
from finetune.data.annotation_exports import is_unaccepted
from finetune.data.column_names import listed
from finetune.data.converters.values import has_value
from finetune.data.examples import shape_of
from finetune.data.json_values import Values, values_in
from finetune.data.raw_file import Note, RawFile, Row
from finetune.data.written_numbers import parse_json

NAMED = 10  # keys in an error
KEY_END = re.compile(r'(?<!\\)"\s*:')
NO_NUMBER = re.compile(r"[:\[,]\s*(NaN|-?Infinity)\b")
SINGLE_QUOTES = re.compile(r"\s*\{\s*'")


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
        whole = document = parse_json(text)
    except orjson.JSONDecodeError as error:
        values = values_in(text)
        if values.texts and values.broken_line is None:
            note["format"] = "JSON with a comma too many" if values.is_list else "JSON objects one after another"
            return separate_rows(source, values)
        line = values.broken_line or error.lineno
        if line != error.lineno and values.over_lines:  # error is of the first line that JSON Lines cannot have
            raise FinetuneError(f"{source.path}, line {line}: not valid JSON.", "Correct that line.") from error
        if named == "JSON" and not is_object(first[0] if first else ""):
            raise invalid_json(source, error.lineno, error, text.split("\n")[error.lineno - 1]) from error
        note["format"] = "JSON Lines"
        return read_json_lines(source)
    note["format"] = "JSON" if named == "JSON" else "JSON, named as JSON Lines"
    if isinstance(whole, dict) and shape_of(whole) is None and "conversations" not in whole:
        refuse_columns(source, whole)
        lists = [
            value for value in whole.values() if isinstance(value, list) and all(isinstance(v, dict) for v in value)
        ]
        whole = lists[0] if len(lists) == 1 else whole  # the object has the list of rows under one of its keys
    rows = whole if isinstance(whole, list) else [whole]
    if has_repeated_keys(text, document):
        refuse_repeated_keys(source, text)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise FinetuneError(
                f"{source.path}: item {number} is not an object.", 'Write each row as {"column": "cell"}.'
            )
    return filled_rows(source, rows)


def filled_rows(source: RawFile, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows that are not left out. Each has its number in the file."""
    source.places.in_sheet = True
    filled = 0
    for number, row in enumerate(rows, 1):
        if is_left_out(source, row):
            continue
        filled += 1
        source.places.add(filled, number)
        yield row


def is_left_out(source: RawFile, row: Row) -> bool:
    """Return whether a row is left out: it is blank, or an annotator did not accept it."""
    is_blank = not any(map(has_value, row.values()))
    return source.leaves_out(is_blank, is_unaccepted(row, source.options.keep_rejected))


def is_kept(source: RawFile, text: str, row: Any, line: int) -> bool:
    """Return whether the row of a JSON text is kept. Raises FinetuneError if it is no object, or has a key twice."""
    if not isinstance(row, dict):
        raise FinetuneError(f"{source.path}, line {line}: not a JSON object.", 'Write each row as {"column": "cell"}.')
    if has_repeated_keys(text, row):
        refuse_repeated_keys(source, text, line)
    return not is_left_out(source, row)


def separate_rows(source: RawFile, values: Values) -> Iterator[Row]:
    """Yield the rows of objects that follow each other without being JSON Lines or a list."""
    rows = 0
    for text, line in zip(values.texts, values.lines, strict=True):
        row = parse_json(text)
        if is_kept(source, text, row, line):
            rows += 1
            source.places.add(rows, line)
            yield row


def refuse_columns(source: RawFile, whole: dict[str, Any]) -> None:
    """Raise FinetuneError for an object that is no row: each of its values, two or more, is a list or an object."""
    if len(whole) > 1 and all(isinstance(value, (list, dict)) for value in whole.values()):
        keys = listed([repr(key) for key in [*whole][:NAMED]], len(whole))
        raise FinetuneError(
            f"{source.path}: one object, whose keys hold lists or objects, is no row: {keys}.",
            'Write a list of rows, [{"column": "cell"}, …], as pandas does with to_json(orient="records"). If the keys'
            " are splits, write a file for each, and name them in data.files.",
        )


def is_object(line: str) -> bool:
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(line), dict)
    return False


def has_repeated_keys(text: str, value: Any) -> bool:
    """Return whether an object in a value may have a key twice in its JSON text, by the number of keys in both."""
    # A quote and a colon also stand in strings, with a backslash before the quote.
    if " :" in text or "\t:" in text or "\n:" in text:
        return len(KEY_END.findall(text)) != keys_in(value)
    return text.count('":') - text.count('\\":') != keys_in(value)


def keys_in(value: Any) -> int:
    """Return how many keys the objects of a value have, at all depths."""
    count, inside = 0, [value]  # no recursion: this is asked for each row, and a value may be deep
    while inside:
        one = inside.pop()
        if isinstance(one, dict):
            count += len(one)
            inside.extend(one.values())
        elif isinstance(one, list):
            inside.extend(one)
    return count


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
                row = parse_json(line.removeprefix("\ufeff") if number == 1 else line)
            except orjson.JSONDecodeError as error:
                raise invalid_json(source, number, error, line) from error
            if is_kept(source, line, row, number):
                rows += 1
                source.places.add(rows, number)
                yield row


def invalid_json(source: RawFile, number: int, error: orjson.JSONDecodeError, line: str = "") -> FinetuneError:
    """Return the error for a line that is not JSON, with the cause where it is a common one."""
    what, remedy = f"not valid JSON: {orjson_message(error)}", "Correct that line."
    values = values_in(line)
    if values.texts and values.broken_line is None:
        count = len(values.texts)
        what = f"{count} JSON objects on one line" if count > 1 else "a comma stands after the object"
        remedy = "Write each on its own line, without commas between them."
    elif found := NO_NUMBER.search(line):
        what, remedy = f"not valid JSON: {found[1]} is no number of JSON", "Write null, or a text in quotes."
    elif SINGLE_QUOTES.match(line):
        what, remedy = "not valid JSON: texts are in single quotes, as Python prints them", "Write it with json.dumps."
    elif line.startswith("\ufeff"):
        what, remedy = "a byte-order mark stands before the object, as in joined files", "Remove it."
    return FinetuneError(f"{source.path}, line {number}: {what}", remedy)


def orjson_message(error: orjson.JSONDecodeError) -> str:
    """Return orjson's message without the place, which is relative to the text that orjson was given."""
    return str(error).split(": line ")[0]
