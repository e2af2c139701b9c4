"""Read raw data of any common format as rows.

pandas reads the tables. The file's suffix decides the format; for JSON and JSON Lines, the content does.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from finetune.core.errors import FinetuneError
from finetune.data.examples import shape_of
from finetune.data.text_encoding import detect_encoding

Row = dict[str, Any]
Note = dict[str, str]  # how a file was read: format, encoding, compression, sheet
Reader = Callable[["Source", Note], Iterable[Row]]
ROWS_AT_ONCE = 10_000
WRONG_NUMBER_OF_CELLS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")  # of pandas


@dataclass(frozen=True)
class Source:
    """A file of rows."""

    path: Path
    gzipped: bool
    sheet: str | None
    encoding: str = "utf-8"

    def open(self) -> BinaryIO:
        return cast("BinaryIO", gzip.open(self.path) if self.gzipped else open(self.path, "rb"))

    def text(self, newline: str | None) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.open(), self.encoding, newline=newline)


def read_rows(path: Path, sheet: str | None = None) -> tuple[Iterator[Row], Note]:
    """Return the rows of a file in their order, and a note of how they are read.

    Cells of tables are strings, "" where empty. `sheet` is the name of a workbook's sheet, None for the first. CSV,
    TSV, TXT and JSON Lines are read row by row, so they may be of any size; workbooks, Parquet and JSON as a whole.
    Raises FinetuneError with the file, and with the line where one line is wrong.
    """
    note: Note = {}
    suffix = path.suffix.lower()
    gzipped = suffix == ".gz"
    if gzipped:
        suffix = Path(path.stem).suffix.lower()
        note["compression"] = "gzip"
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise FinetuneError(f"{path}: unknown file type.", f"Convert the file to one of {known}, or .gz of these.")
    if sheet is not None and suffix != ".xlsx":
        raise FinetuneError(f"{path} has no sheets, but data.sheet names {sheet!r}.", "Remove data.sheet.")
    source = Source(path, gzipped, sheet)
    try:
        if suffix not in (".xlsx", ".parquet"):
            note["encoding"] = encoding_of(source)
            source = replace(source, encoding=note["encoding"])
        return at_least_one(READERS[suffix](source, note), path), note
    except FileNotFoundError:
        raise FinetuneError(
            f"There is no file {path}.", "Put your data there, or change data.file in params.yaml."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FinetuneError(f"{path} is not a complete gzip file: {error}", "Compress it again.") from error
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check data.file.") from error


def encoding_of(source: Source) -> str:
    """Return the encoding of a source's text. Raises FinetuneError where it cannot be detected."""
    try:
        return detect_encoding(source.open)
    except ValueError as error:
        raise FinetuneError(f"{source.path} is {error}.", "Save the file as UTF-8.") from error


def at_least_one(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    """Yield the rows. Raises FinetuneError when there are none."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise FinetuneError(f"{path} has no rows.", "Put data in it, or change data.file in params.yaml.")


def read_table(separator: str) -> Reader:
    def read(source: Source, note: Note) -> Iterator[Row]:
        note["format"] = "CSV" if separator == "," else "TSV"
        return rows_of_table(source, separator)

    return read


def rows_of_table(source: Source, separator: str) -> Iterator[Row]:
    import pandas as pd

    with source.text(newline="") as text:
        try:
            for part in pd.read_csv(text, sep=separator, dtype=str, keep_default_na=False, chunksize=ROWS_AT_ONCE):
                yield from table_rows(part)
        except pd.errors.EmptyDataError:
            return
        except pd.errors.ParserError as error:
            raise table_error(source.path, separator, error) from error


def table_error(path: Path, separator: str, error: Exception) -> FinetuneError:
    """Return the error for a table that pandas cannot parse."""
    name = "comma" if separator == "," else "tab"
    if found := WRONG_NUMBER_OF_CELLS.search(str(error)):
        expected, line, cells = found.groups()
        return FinetuneError(
            f"{path}, line {line}: {cells} cells, but {expected} were expected.", f"Quote cells that contain a {name}."
        )
    return FinetuneError(f"{path}: {str(error).strip()}", f"Check the quotes and the {name}s of that line.")


def read_workbook(source: Source, note: Note) -> list[Row]:
    import pandas as pd
    from python_calamine import CalamineError

    note["format"] = "XLSX"
    with source.open() as content:
        whole = io.BytesIO(content.read())
    try:
        book = pd.ExcelFile(whole, engine="calamine")
    except (CalamineError, ValueError, OSError) as error:
        raise FinetuneError(f"{source.path} is not a workbook: {error}", "Save it as .xlsx again.") from error
    names = [str(name) for name in book.sheet_names]
    if source.sheet is not None and source.sheet not in names:
        raise FinetuneError(f"{source.path} has no sheet {source.sheet!r}.", f"Its sheets are: {', '.join(names)}.")
    note["sheet"] = source.sheet or names[0]
    if source.sheet is None and len(names) > 1:
        note["other sheets"] = ", ".join(names[1:])
    return table_rows(pd.read_excel(book, sheet_name=note["sheet"], dtype=str, keep_default_na=False))


def read_parquet(source: Source, note: Note) -> list[Row]:
    import pandas as pd

    note["format"] = "Parquet"
    with source.open() as content:
        whole = io.BytesIO(content.read())
    try:
        table = pd.read_parquet(whole)
    except ImportError as error:
        raise FinetuneError(
            f"{source.path}: reading Parquet needs the package pyarrow.", "Install it: pip install -e '.[parquet]'"
        ) from error
    except (ValueError, OSError) as error:  # pyarrow's errors are subclasses of either
        raise FinetuneError(f"{source.path} is not Parquet: {error}", "Save it as Parquet again.") from error
    return [{str(key): json_value(value) for key, value in row.items()} for row in table.to_dict("records")]


def json_value(value: Any) -> Any:
    """Return a cell of Parquet as a value that JSON has: arrays as lists, missing values as null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    missing = value is None or (isinstance(value, float) and value != value)
    return None if missing else value if isinstance(value, (str, bool, int, float)) else str(value)


def read_lines(source: Source, note: Note) -> Iterator[Row]:
    note["format"] = "TXT"
    return ({"text": line.rstrip("\n")} for line in nonblank_lines(source, newline=None))


def nonblank_lines(source: Source, newline: str | None) -> Iterator[str]:
    with source.text(newline) as text:
        for line in text:
            if line.strip():
                yield line


def read_json(source: Source, note: Note) -> Iterable[Row]:
    """Read JSON or JSON Lines, whatever the suffix: a first line that is a JSON object shows that it is JSON Lines."""
    named = "JSON Lines" if ".jsonl" in source.path.name.lower() else "JSON"
    first = list(islice(nonblank_lines(source, newline="\n"), 2))
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
                f"{source.path}, line {error.lineno}: not valid JSON: {reason(error)}", "Correct that line."
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


def read_json_lines(source: Source) -> Iterator[Row]:
    with source.text(newline="\n") as text:  # texts may contain other line ends of Unicode
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line.removeprefix("\ufeff") if number == 1 else line)
            except orjson.JSONDecodeError as error:
                raise FinetuneError(
                    f"{source.path}, line {number}: not valid JSON: {reason(error)}", "Correct that line."
                ) from error
            if not isinstance(row, dict):
                raise FinetuneError(
                    f"{source.path}, line {number}: not a JSON object.", 'Write each row as {"column": "cell"}.'
                )
            yield row


def reason(error: orjson.JSONDecodeError) -> str:
    """Return orjson's message without the place, which is relative to the text that orjson was given."""
    return str(error).split(": line ")[0]


def table_rows(table: Any) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


READERS: dict[str, Reader] = {
    ".csv": read_table(","),
    ".tsv": read_table("\t"),
    ".xlsx": read_workbook,
    ".json": read_json,
    ".jsonl": read_json,
    ".parquet": read_parquet,
    ".txt": read_lines,
}
