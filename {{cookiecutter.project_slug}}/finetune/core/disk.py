"""Read and write files. A file is written whole or not at all, and the same content gives the same bytes."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from finetune.core.damage import (
    Record,
    conflict_line,
    how_to_restore,
    line_of,
    missing,
    open_file,
    read_bytes,
    record_of,
    remedy_for,
    set_aside,
    warn_once,
    wrong_value,
)
from finetune.core.errors import FinetuneError
from finetune.core.formula_cells import marked, unmarked

LONGEST_CELL = 2**31 - 1  # characters; a prompt may be longer than the default limit of Python's csv
BLOCK = 1 << 20  # bytes that are read at once


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write `lines` through a temporary file and a rename. Raises FinetuneError if the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FinetuneError(
            f"Cannot write {path}: {error.strerror or error}.",
            "Make room or correct the permissions, then run the same command again. The former file is unchanged.",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    write_lines(path, [content])


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with sorted keys and a final newline."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, keys in their given order; an empty line if there are no rows."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) or "\n")


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, mark_formulas: bool = True
) -> None:
    """Write CSV with the given columns; other keys of a row are left out.

    People open these files in spreadsheets, so a text that begins a formula gets a mark, which `read_csv` removes.
    Without `mark_formulas`, for programs that read the file, all texts are written as they are.
    """
    lines: list[str] = []
    cell = marked if mark_formulas else lambda value: value
    # Before Python 3.13, a lone \r is quoted only if it is part of the line terminator.
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerow([cell(column) for column in columns])
    writer.writerows([cell(row.get(column, "")) for column in columns] for row in rows)
    write_lines(path, (line.removesuffix("\r\n").encode("utf-8") + b"\n" for line in lines))


def read_csv(path: Path, made_by: str = "", needs: Iterable[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a table as texts by column; [] if the file is missing.

    Raises FinetuneError naming the line that is no row of the table, and the columns of `needs` that it lacks.
    """
    if not path.exists():
        return []
    content = read_bytes(path)
    restored = how_to_restore(path, made_by) if made_by else f"Restore it with: git checkout {path}"
    remedy = remedy_for(path, content, restored)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = line_of(content, error.start)
        raise FinetuneError(f"{path}, line {line} is not in UTF-8.", remedy) from error
    if not text.strip():
        raise FinetuneError(f"{path} is empty: it lacks the line with the names of its columns.", remedy)
    rows = csv_reader(text)
    try:
        columns = list(rows.fieldnames or ())
        if missing := [name for name in needs if name not in columns]:
            raise FinetuneError(f"{path}, line 1 lacks the columns {', '.join(missing)}.", remedy)
        found = []
        for row in rows:
            if None in row or None in row.values():
                raise FinetuneError(f"{path}, line {rows.line_num}: {why_no_row(row, columns)}.", remedy)
            found.append({key: unmarked(cell) for key, cell in row.items()})
    except csv.Error as error:
        raise FinetuneError(f"{path}, line {rows.line_num + 1} is no row of a table: {error}.", remedy) from error
    return found


def why_no_row(row: Mapping[Any, Any], columns: Sequence[str]) -> str:
    """Return what is wrong with a line of a table that has more or fewer cells than columns."""
    if str(row[columns[0]]).startswith(("<<<<<<<", "=======", ">>>>>>>", "|||||||")):
        return "a conflict of a merge is not resolved"
    cells = len(columns) + len(row.get(None) or ()) - list(row.values()).count(None)
    return f"{cells} cells, but the table has {len(columns)} columns"


def parse_csv(text: str) -> list[dict[str, str]]:
    """Return the rows of a table as texts by column, without the marks of formulas."""
    return [
        {key: unmarked(cell) if isinstance(cell, str) else cell for key, cell in row.items()}
        for row in csv_reader(text)
    ]


def csv_reader(text: str) -> "csv.DictReader[str]":
    """Return a reader of the rows of a table."""
    csv.field_size_limit(LONGEST_CELL)
    return csv.DictReader(io.StringIO(text, newline=""))


def count_lines(path: Path) -> int:
    """Return the number of line breaks in a file, which may be larger than memory."""
    with open_file(path) as content:
        return sum(block.count(b"\n") for block in iter(lambda: content.read(BLOCK), b""))


def read_json(path: Path, made_by: str, kind: Any = None) -> Any:
    """Read a record. `kind` is its type in records/.

    Raises FinetuneError naming the stage `made_by` that writes it, if it is missing, is no JSON object, or has a value
    of another type. A key that is missing raises FinetuneError when it is asked for.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise missing(path, f"Create it with: dvc repro {made_by}") from None
    remedy = remedy_for(path, content, how_to_restore(path, made_by))
    return parse_json(content, str(path), remedy, kind)


def parse_json(content: bytes, place: str, remedy: str, kind: Any = None) -> Record:
    """Return the object in a record's bytes. Raises FinetuneError as `read_json`."""
    try:
        value = json.loads(content.decode("utf-8"), object_hook=lambda found: record_of(found, place, remedy))
    except UnicodeDecodeError as error:
        raise FinetuneError(f"{place}, line {line_of(content, error.start)} is not in UTF-8.", remedy) from error
    except ValueError as error:
        line = conflict_line(content)
        reason = f"a conflict of a merge is not resolved in line {line}" if line else str(error)
        raise FinetuneError(f"{place} is not valid JSON: {reason}", remedy) from error
    except RecursionError as error:
        raise FinetuneError(f"{place} is not valid JSON: it is nested too deeply", remedy) from error
    if not isinstance(value, Record):
        raise FinetuneError(f"{place} is no JSON object.", remedy)
    if kind and (why := wrong_value(content, kind)):
        raise FinetuneError(f"{place} is damaged: {why}.", remedy)
    return value


def read_if_there(path: Path, made_by: str, kind: Any = None) -> Any:
    """Read a record that may be missing; {} then. Raises FinetuneError as `read_json` for one that is damaged."""
    return read_json(path, made_by, kind) if os.path.lexists(path) else {}


def parse_jsonl(text: str) -> list[Any]:
    """Return the rows of JSON Lines. Only a line feed ends a row: a text may hold other separators of lines."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def read_note(path: Path, kind: Any = None) -> dict[str, Any]:
    """Read a note of this clone, a JSON object; {} if it is missing. `kind` is its type in records/.

    A damaged note is set aside, and a warning says so: nothing in Git or DVC can restore it.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return {}
    try:
        return parse_json(content, str(path), "", kind)
    except FinetuneError as error:
        warn_once(f"{error.what.rstrip('.')}. This note is renamed to {set_aside(path)}, and written again.")
        return {}


def read_jsonl(path: Path, made_by: str, kind: Any = None) -> list[Any]:
    """Read the rows of a JSON Lines file. Raises FinetuneError if it is missing, naming the stage that writes it."""
    return list(each_jsonl(path, made_by, kind))


def each_jsonl(path: Path, made_by: str, kind: Any = None) -> Iterator[Any]:
    """Yield the rows of a JSON Lines file, which may be larger than memory. Raises FinetuneError as `read_json`."""
    remedy = how_to_restore(path, made_by)
    try:
        file = open_file(path)
    except FileNotFoundError:
        raise missing(path, f"Create it with: dvc repro {made_by}, or fetch it with: dvc pull") from None
    with file as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            place = f"{path}, line {number}"
            try:
                row = orjson.loads(line)
            except ValueError as error:
                raise FinetuneError(f"{place} is not valid JSON: {error}", remedy) from error
            if not isinstance(row, dict):
                raise FinetuneError(f"{place} is no JSON object.", remedy)
            if kind and (why := wrong_value(line, kind)):
                raise FinetuneError(f"{place} is damaged: {why}.", remedy)
            yield record_of(row, place, remedy)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open_file(path) as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
