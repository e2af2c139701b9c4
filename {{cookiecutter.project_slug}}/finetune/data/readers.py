"""Raw data as rows, from any common format, and a note of how it was read.

Tables go through pandas. What a file is called decides what it is, but for JSON and JSON Lines, which are told apart by
what is in them.
"""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from finetune.data.rules import shape_of
from finetune.errors import FinetuneError

Row = dict[str, Any]
Note = dict[str, str]
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
    """A file's bytes, unpacked, and where they came from."""

    path: Path
    content: bytes
    sheet: str | None


def read_rows(path: Path, sheet: str | None = None) -> tuple[list[Row], Note]:
    """The rows of a file in their order, and how it was read: `format`, `encoding`, `compression`, `sheet`.

    Cells of tables are texts, an empty one is "". `sheet` is the name of a workbook's sheet, its first if None.
    Raises FinetuneError naming the file, and the line where one line is at fault.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FinetuneError(
            f"There is no file {path}.", "Put your data there, or change data.file in params.yaml."
        ) from None
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check data.file.") from error
    note: Note = {}
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower()
        note["compression"] = "gzip"
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise FinetuneError(f"{path} is not whole gzip: {error}", "Pack it again.") from error
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise FinetuneError(f"{path}: only {known} are read, and .gz of each.", "Convert it, or rename it.")
    if sheet is not None and suffix != ".xlsx":
        raise FinetuneError(f"{path} has no sheets, but data.sheet names {sheet!r}.", "Remove data.sheet.")
    rows = READERS[suffix](Source(path, content, sheet), note)
    if not rows:
        raise FinetuneError(f"{path} has no rows.", "Put data in it, or change data.file in params.yaml.")
    return rows, note


def text_of_source(source: Source, note: Note) -> str:
    """A file's text, by its byte-order mark, as UTF-8, or by what charset-normalizer takes it for."""
    encoding = next((name for mark, name in MARKS.items() if source.content.startswith(mark)), "utf-8")
    try:
        text = source.content.decode(encoding)
    except UnicodeDecodeError as error:
        guess = guessed(source.content) if encoding == "utf-8" else None
        if guess is None:
            raise FinetuneError(
                f"{source.path} is not {encoding.upper()}: {error.reason} at byte {error.start}.", "Save it as UTF-8."
            ) from error
        encoding, text = guess
    note["encoding"] = encoding
    return text


def guessed(content: bytes) -> tuple[str, str] | None:
    """The encoding that bytes without a mark are most likely in, and the text they then are."""
    from charset_normalizer import from_bytes

    # Japanese is told by its hiragana, which other encodings' bytes hardly ever make; short texts of it in Shift-JIS
    # are otherwise taken for Korean.
    with suppress(UnicodeDecodeError):
        text = content.decode("cp932")
        if len(HIRAGANA.findall(text)) > 0.15 * sum(not letter.isascii() for letter in text):
            return "cp932", text
    found = from_bytes(content, cp_isolation=list(OTHER_ENCODINGS)).best()
    return (found.encoding, str(found)) if found else None


def read_table(separator: str) -> Callable[[Source, Note], list[Row]]:
    def read(source: Source, note: Note) -> list[Row]:
        import pandas as pd

        note["format"] = "CSV" if separator == "," else "TSV"
        text = io.StringIO(text_of_source(source, note))
        try:
            return as_rows(pd.read_csv(text, sep=separator, dtype=str, keep_default_na=False))
        except pd.errors.EmptyDataError:
            return []
        except pd.errors.ParserError as error:
            raise FinetuneError(
                f"{source.path}: {str(error).strip()}", "Mend that line: a quote or a separator is amiss."
            ) from error

    return read


def read_workbook(source: Source, note: Note) -> list[Row]:
    import pandas as pd
    from python_calamine import CalamineError

    note["format"] = "XLSX"
    try:
        book = pd.ExcelFile(io.BytesIO(source.content), engine="calamine")
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
    try:
        table = pd.read_parquet(io.BytesIO(source.content))
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


def read_lines(source: Source, note: Note) -> list[Row]:
    note["format"] = "TXT"
    lines = text_of_source(source, note).splitlines()
    return [{"text": line} for line in lines if line.strip()]


def read_json(source: Source, note: Note) -> list[Row]:
    """JSON and JSON Lines, whichever of the two the file's name says."""
    text = text_of_source(source, note).lstrip("\ufeff")
    named = "JSON Lines" if ".jsonl" in source.path.name.lower() else "JSON"
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if named == "JSON" and not text.lstrip().startswith("{"):
            raise FinetuneError(
                f"{source.path}, line {error.lineno}: not valid JSON: {reason(error)}", "Mend that line."
            ) from error
        rows = read_json_lines(source.path, text)
        note["format"] = "JSON Lines" if named == "JSON Lines" else "JSON Lines, named as JSON"
        return rows
    if isinstance(whole, dict) and named == "JSON Lines" and len(text.strip().splitlines()) == 1:
        note["format"] = named
        return [whole]
    note["format"] = "JSON" if named == "JSON" else "JSON, named as JSON Lines"
    if isinstance(whole, dict) and shape_of(whole) is None:
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else whole  # an object around the list of rows
    rows = whole if isinstance(whole, list) else [whole]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise FinetuneError(f"{source.path}: item {number} is not an object.", 'A row is {"column": "cell"}.')
    return rows


def read_json_lines(path: Path, text: str) -> list[Row]:
    rows = []
    # Not splitlines: a text may hold other line ends of Unicode.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise FinetuneError(f"{path}, line {number}: not valid JSON: {reason(error)}", "Mend that line.") from error
        if not isinstance(row, dict):
            raise FinetuneError(f"{path}, line {number}: not a JSON object.", 'Each line is {"column": "cell"}.')
        rows.append(row)
    return rows


def reason(error: orjson.JSONDecodeError) -> str:
    """What orjson complains of, without the place, which is counted in the piece that it was given."""
    return str(error).split(": line ")[0]


def as_rows(table: Any) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


READERS: dict[str, Callable[[Source, Note], list[Row]]] = {
    ".csv": read_table(","),
    ".tsv": read_table("\t"),
    ".xlsx": read_workbook,
    ".json": read_json,
    ".jsonl": read_json,
    ".parquet": read_parquet,
    ".txt": read_lines,
}
