"""Read raw data of any common format as rows. The suffix decides the format."""

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Data
from finetune.data.file_content import refuse_other_content
from finetune.data.json_readers import read_json
from finetune.data.prompts import columns_in
from finetune.data.raw_file import Note, Quoting, RawFile, ReadOptions, Row, Rows
from finetune.data.table_readers import read_csv, read_parquet, read_tsv
from finetune.data.text_encoding import TextEncoding, decoding_error, detect_encoding, marked_encoding
from finetune.data.workbook import read_workbook

Reader = Callable[[RawFile, Note], Iterable[Row]]


def read_raw_data(data: Data, file: str) -> tuple[Rows, Note]:
    """Return the rows of a file of `data` in params.yaml, and a note of how they are read, as `read_rows` does."""
    named = columns_in(data.prompt.model_dump()) if data.prompt else []
    rejected = "answer" in named  # then the decision of an annotator is part of the example
    return read_rows(Path(file), data.sheet, data.encoding, data.delimiter, data.quoting, keep_rejected=rejected)


def read_rows(
    path: Path,
    sheet: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: Quoting = "auto",
    keep_all: bool = False,
    keep_rejected: bool = False,
) -> tuple[Rows, Note]:
    """Return the rows of a file in their order, and a note of how they are read.

    Cells of tables are strings, "" where empty. CSV, TSV, TXT and JSON Lines are read row by row, so they may be of any
    size; workbooks, Parquet and JSON as a whole. `sheet` is the name of a workbook's sheet, None for the first; the
    parameters after it are those of `data` in params.yaml, and what is None or "auto" is detected. Rows without text in
    any cell, and rows that an annotator of Prodigy did not accept, are left out and counted, unless `keep_all`. With
    `keep_rejected`, only those that were ignored are.
    Raises FinetuneError with the file, and with the line where one line is wrong; of some mistakes after the last row.
    """
    note: Note = {}
    options = ReadOptions(sheet, encoding, delimiter, quoting, keep_all, keep_rejected)
    suffix = path.suffix.lower()
    gzipped = suffix == ".gz"
    if gzipped:
        suffix = Path(path.stem).suffix.lower()
        note["compression"] = "gzip"
    if suffix not in READERS:
        known = ", ".join(READERS)
        remedy = OTHER_SUFFIXES.get(suffix, f"Convert the file to one of {known}, or .gz of these.")
        raise FinetuneError(f"{path}: unknown file type.", remedy)
    if sheet is not None and suffix != ".xlsx":
        raise FinetuneError(f"{path} has no sheets, but data.sheet names {sheet!r}.", "Remove data.sheet.")
    source = RawFile(path, gzipped, options)
    try:
        refuse_other_content(source, suffix)
        if suffix not in (".xlsx", ".parquet"):
            found = encoding_of(source)
            note["encoding"] = found.name
            if found.confidence is not None:
                note["encoding_confidence"] = f"{found.confidence:.2f}"
            if encoding is not None and is_unlike_utf8(found.name) and is_utf8(path):
                note["text is also valid as"] = "utf-8"
            source = replace(source, encoding=found.name)
        return Rows(at_least_one(READERS[suffix](source, note), path, note, keep_all), source.places), note
    except FileNotFoundError:
        raise FinetuneError(
            f"There is no file {path}.", "Put your data there, or change data.file in params.yaml."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FinetuneError(f"{path} is not a complete gzip file: {error}", "Compress it again.") from error
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check data.file.") from error


def is_utf8(path: Path) -> bool:
    """Return whether a file has letters beyond ASCII, and all of it is UTF-8."""
    source = RawFile(path, path.suffix.lower() == ".gz")
    with suppress(OSError, EOFError, zlib.error):
        return decoding_error(source.open, "ascii") is not None and decoding_error(source.open, "utf-8") is None
    return False


def is_unlike_utf8(encoding: str) -> bool:
    """Return whether an encoding reads other letters from UTF-8 than are written."""
    return not codecs.lookup(encoding).name.startswith("utf")


def encoding_of(source: RawFile) -> TextEncoding:
    """Return the encoding of a source's text: data.encoding, or the detected one.

    Raises FinetuneError where it cannot be detected, and where the text is not in data.encoding.
    """
    wished = source.options.encoding
    try:
        if wished is None:
            return detect_encoding(source.open)
        codecs.getincrementaldecoder(wished)
        "".encode(wished)  # raises LookupError for codecs that are not of text
        wished = with_mark(source, wished)
    except LookupError as error:
        raise FinetuneError(f"data.encoding in params.yaml: {error}.", "Write a name such as cp1252.") from error
    except ValueError as error:
        what, *remedy = error.args
        raise FinetuneError(
            f"{source.path} is {what}.", *(remedy or ["Save the file as UTF-8, or set data.encoding in params.yaml."])
        ) from error
    if wrong := decoding_error(source.open, wished):
        raise FinetuneError(f"{source.path} is {wrong}.", "Correct data.encoding in params.yaml, or remove it.")
    return TextEncoding(wished)


def with_mark(source: RawFile, wished: str) -> str:
    """Return the name of an encoding for a text with its byte-order mark, if the text has one.

    Raises FinetuneError if the text has the mark of another encoding.
    """
    with source.open() as content:
        marked = marked_encoding(content.read(4))
    if marked is None or codecs.lookup(wished).name.startswith(marked.removesuffix("-sig")):
        return marked or wished
    raise FinetuneError(
        f"{source.path} begins with the byte-order mark of {marked.removesuffix('-sig').upper()}, but data.encoding in"
        f" params.yaml is {wished}.",
        "Correct data.encoding, or remove it.",
    )


def at_least_one(rows: Iterable[Row], path: Path, note: Note, to_ask: bool) -> Iterator[Row]:
    """Yield the rows. Raises FinetuneError when there are none; `to_ask`: the file is not that of params.yaml."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty and "other sheets" in note:
        raise FinetuneError(
            f"{path}: the sheet {note['sheet']!r} has no rows.",
            f"Set data.sheet in params.yaml, or --sheet of finetune init, to another one: {note['other sheets']}.",
        )
    if empty:
        other = "name another file" if to_ask else "change data.file in params.yaml"
        raise FinetuneError(f"{path} has no rows.", f"Put rows in it, or {other}.")


def read_lines(source: RawFile, note: Note) -> Iterator[Row]:
    note["format"] = "TXT"
    for row, (number, line) in enumerate(source.lines(newline=None), 1):
        source.places.add(row, number)
        yield {"text": line.removesuffix("\n")}


READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".xlsx": read_workbook,
    ".json": read_json,
    ".jsonl": read_json,
    ".parquet": read_parquet,
    ".txt": read_lines,
}
OTHER_SUFFIXES = {
    **dict.fromkeys((".xls", ".xlsb", ".xlsm", ".ods", ".numbers"), "Save it as .xlsx in a spreadsheet."),
    **dict.fromkeys((".tab", ".psv"), "If it is a table as text, rename it to .tsv or .csv."),
    **dict.fromkeys((".ndjson", ".jsonlines"), "If each line is a JSON object, rename it to .jsonl."),
    **dict.fromkeys((".zip", ".zst", ".bz2", ".xz", ".7z", ".rar", ".tar"), "Unpack it, and name a file in it."),
}
