"""Raw data as rows, from any common format, and a note of how it was read.

Tables go through pandas. What a file is called decides what it is, but for JSON and JSON Lines, which are told apart by
what is in them.
"""

import codecs
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

Row = dict[str, Any]
Note = dict[str, str]
Reader = Callable[["Source", Note], Iterable[Row]]
ROWS_AT_ONCE = 10_000
MARKS = {  # UTF-32 before UTF-16: its mark begins with the other's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
# What a text without a mark, and not in UTF-8, may be in; the supersets of Shift-JIS and EUC-KR that Windows writes.
OTHER_ENCODINGS = ("cp932", "cp949", "euc_jp", "cp1252", "latin_1")
HIRAGANA = re.compile(r"[\u3041-\u309f]")


@dataclass(frozen=True)
class Source:
    """A file of rows, packed or not, and the encoding of its text."""

    path: Path
    packed: bool
    sheet: str | None
    encoding: str = "utf-8"

    def open(self) -> BinaryIO:
        return cast("BinaryIO", gzip.open(self.path) if self.packed else open(self.path, "rb"))

    def text(self, newline: str | None) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.open(), self.encoding, newline=newline)


def read_rows(path: Path, sheet: str | None = None) -> tuple[Iterator[Row], Note]:
    """The rows of a file in their order, and how it is read: `format`, `encoding`, `compression`, `sheet`.

    Cells of tables are texts, an empty one is "". `sheet` is the name of a workbook's sheet, its first if None. Tables
    in text and JSON Lines are read as they are asked for, however large; workbooks, Parquet and JSON as a whole.
    Raises FinetuneError naming the file, and the line where one line is at fault.
    """
    note: Note = {}
    suffix = path.suffix.lower()
    packed = suffix == ".gz"
    if packed:
        suffix = Path(path.stem).suffix.lower()
        note["compression"] = "gzip"
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise FinetuneError(f"{path}: only {known} are read, and .gz of each.", "Convert it, or rename it.")
    if sheet is not None and suffix != ".xlsx":
        raise FinetuneError(f"{path} has no sheets, but data.sheet names {sheet!r}.", "Remove data.sheet.")
    source = Source(path, packed, sheet)
    try:
        if suffix not in (".xlsx", ".parquet"):
            note["encoding"] = encoding_of(source)
            source = replace(source, encoding=note["encoding"])
        return some(READERS[suffix](source, note), path), note
    except FileNotFoundError:
        raise FinetuneError(
            f"There is no file {path}.", "Put your data there, or change data.file in params.yaml."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FinetuneError(f"{path} is not whole gzip: {error}", "Pack it again.") from error
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check data.file.") from error


def some(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    """The rows as they come; raises FinetuneError when none do."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise FinetuneError(f"{path} has no rows.", "Put data in it, or change data.file in params.yaml.")


def encoding_of(source: Source) -> str:
    """By a text's byte-order mark, else UTF-8 if all of it is, else what charset-normalizer takes it for."""
    with source.open() as content:
        head = content.read(4)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)()
    done = 0
    try:
        with source.open() as content:
            while chunk := content.read(1024**2):
                decoder.decode(chunk)
                done += len(chunk)
            decoder.decode(b"", final=True)
        return encoding
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            with source.open() as content:
                guess = guessed(content.read())
            if guess:
                return guess
        raise FinetuneError(
            f"{source.path} is not {encoding.upper()}: {error.reason} at byte {done + error.start}.",
            "Save it as UTF-8.",
        ) from error


def guessed(content: bytes) -> str | None:
    """The encoding that bytes without a mark are most likely in."""
    from charset_normalizer import from_bytes

    # Japanese is told by its hiragana, which other encodings' bytes hardly ever make; short texts of it in Shift-JIS
    # are otherwise taken for Korean.
    with suppress(UnicodeDecodeError):
        text = content.decode("cp932")
        if len(HIRAGANA.findall(text)) > 0.15 * sum(not letter.isascii() for letter in text):
            return "cp932"
    found = from_bytes(content, cp_isolation=list(OTHER_ENCODINGS)).best()
    return found.encoding if found else None


def read_table(separator: str) -> Reader:
    def read(source: Source, note: Note) -> Iterator[Row]:
        note["format"] = "CSV" if separator == "," else "TSV"
        return rows_of_text(source, separator)

    return read


def rows_of_text(source: Source, separator: str) -> Iterator[Row]:
    import pandas as pd

    with source.text(newline="") as text:
        try:
            for part in pd.read_csv(text, sep=separator, dtype=str, keep_default_na=False, chunksize=ROWS_AT_ONCE):
                yield from as_rows(part)
        except pd.errors.EmptyDataError:
            return
        except pd.errors.ParserError as error:
            raise FinetuneError(
                f"{source.path}: {str(error).strip()}", "Mend that line: a quote or a separator is amiss."
            ) from error


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
    return as_rows(pd.read_excel(book, sheet_name=note["sheet"], dtype=str, keep_default_na=False))


def read_parquet(source: Source, note: Note) -> list[Row]:
    import pandas as pd

    note["format"] = "Parquet"
    with source.open() as content:
        whole = io.BytesIO(content.read())
    try:
        table = pd.read_parquet(whole)
    except ImportError as error:
        raise FinetuneError(
            f"{source.path}: Parquet needs the package pyarrow.", "Install it: pip install -e '.[parquet]'"
        ) from error
    except (ValueError, OSError) as error:  # pyarrow's own errors are of both kinds
        raise FinetuneError(f"{source.path} is not Parquet: {error}", "Write it again.") from error
    return [{str(key): plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def plain(value: Any) -> Any:
    """A cell of Parquet as JSON has it: arrays as lists, what is missing as null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    missing = value is None or (isinstance(value, float) and value != value)
    return None if missing else value if isinstance(value, (str, bool, int, float)) else str(value)


def read_lines(source: Source, note: Note) -> Iterator[Row]:
    note["format"] = "TXT"
    return ({"text": line.rstrip("\n")} for line in lines_of(source, newline=None))


def lines_of(source: Source, newline: str | None) -> Iterator[str]:
    """The lines that say something."""
    with source.text(newline) as text:
        for line in text:
            if line.strip():
                yield line


def read_json(source: Source, note: Note) -> Iterable[Row]:
    """JSON and JSON Lines, whichever the file's name says: a first line that is an object of its own tells."""
    named = "JSON Lines" if ".jsonl" in source.path.name.lower() else "JSON"
    first = list(islice(lines_of(source, newline="\n"), 2))
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
                f"{source.path}, line {error.lineno}: not valid JSON: {reason(error)}", "Mend that line."
            ) from error
        note["format"] = "JSON Lines"
        return read_json_lines(source)
    note["format"] = "JSON" if named == "JSON" else "JSON, named as JSON Lines"
    if isinstance(whole, dict) and shape_of(whole) is None:
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else whole  # an object around the list of rows
    rows = whole if isinstance(whole, list) else [whole]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise FinetuneError(f"{source.path}: item {number} is not an object.", 'A row is {"column": "cell"}.')
    return rows


def is_object(line: str) -> bool:
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(line), dict)
    return False


def read_json_lines(source: Source) -> Iterator[Row]:
    with source.text(newline="\n") as text:  # a text may hold other line ends of Unicode
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line.removeprefix("\ufeff") if number == 1 else line)
            except orjson.JSONDecodeError as error:
                raise FinetuneError(
                    f"{source.path}, line {number}: not valid JSON: {reason(error)}", "Mend that line."
                ) from error
            if not isinstance(row, dict):
                raise FinetuneError(
                    f"{source.path}, line {number}: not a JSON object.", 'Each line is {"column": "cell"}.'
                )
            yield row


def reason(error: orjson.JSONDecodeError) -> str:
    """What orjson complains of, without the place, which is counted in the piece that it was given."""
    return str(error).split(": line ")[0]


def as_rows(table: Any) -> list[Row]:
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
