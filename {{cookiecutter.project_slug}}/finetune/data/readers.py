"""Read raw data of any common format as rows. The suffix decides the format."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from finetune.core.errors import FinetuneError
from finetune.data.json_readers import read_json
from finetune.data.raw_file import Note, RawFile, Row
from finetune.data.table_readers import read_csv, read_parquet, read_tsv, read_workbook
from finetune.data.text_encoding import detect_encoding

Reader = Callable[[RawFile, Note], Iterable[Row]]


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
    source = RawFile(path, gzipped, sheet)
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


def encoding_of(source: RawFile) -> str:
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


def read_lines(source: RawFile, note: Note) -> Iterator[Row]:
    note["format"] = "TXT"
    return ({"text": line.rstrip("\n")} for line in source.lines(newline=None))


READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".xlsx": read_workbook,
    ".json": read_json,
    ".jsonl": read_json,
    ".parquet": read_parquet,
    ".txt": read_lines,
}
