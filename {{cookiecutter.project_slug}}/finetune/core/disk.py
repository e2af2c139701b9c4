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


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table of `write_csv` as texts by column; [] if the file is missing."""
    return parse_csv(path.read_bytes().decode("utf-8")) if path.exists() else []


def parse_csv(text: str) -> list[dict[str, str]]:
    """Return the rows of a table as texts by column, without the marks of formulas."""
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [{key: unmarked(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows]


def count_lines(path: Path) -> int:
    """Return the number of line breaks in a file, which may be larger than memory."""
    with open(path, "rb") as content:
        return sum(block.count(b"\n") for block in iter(lambda: content.read(BLOCK), b""))


def read_json(path: Path, made_by: str) -> Any:
    """Read a record. Raises FinetuneError if it is missing, naming the stage `made_by` that writes it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FinetuneError(f"{path} is missing.", f"Create it with: dvc repro {made_by}") from None
    except ValueError as error:
        raise FinetuneError(
            f"{path} is not valid JSON: {error}", f"Create it again: dvc repro -f -s {made_by}"
        ) from error


def parse_jsonl(text: str) -> list[Any]:
    """Return the rows of JSON Lines. Only a line feed ends a row: a text may hold other separators of lines."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def read_note(path: Path) -> dict[str, Any]:
    """Read a JSON object that may be missing or cut off; {} then."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return dict(value) if isinstance(value, dict) else {}


def read_jsonl(path: Path, made_by: str) -> list[Any]:
    """Read the rows of a JSON Lines file. Raises FinetuneError if it is missing, naming the stage that writes it."""
    return list(each_jsonl(path, made_by))


def each_jsonl(path: Path, made_by: str) -> Iterator[Any]:
    """Yield the rows of a JSON Lines file, which may be larger than memory. Raises FinetuneError as `read_jsonl`."""
    number = 0
    try:
        with open(path, "rb") as lines:
            for line in lines:
                number += 1
                if not line.isspace():
                    yield orjson.loads(line)
    except FileNotFoundError:
        raise FinetuneError(
            f"{path} is missing.", f"Create it with: dvc repro {made_by}, or fetch it with: dvc pull"
        ) from None
    except ValueError as error:
        raise FinetuneError(
            f"{path}, line {number} is not valid JSON: {error}",
            f"Restore it with: dvc checkout {made_by}, or create it again: dvc repro -f -s {made_by}",
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
