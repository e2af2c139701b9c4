"""Refuse a file whose content is of another kind than its name says, by its first bytes."""

import re
from contextlib import suppress

import orjson

from finetune.core.errors import FinetuneError
from finetune.data.raw_file import RawFile

HEAD = 100_000  # bytes that are looked at
SPREADSHEET = "Open it in a spreadsheet, and save it as .xlsx or .csv"
# How the content of a kind begins, what it is, and what to do.
KINDS = (
    (rb"\x1f\x8b", "a gzip file", "Rename it to end with .gz after its suffix, such as .csv.gz."),
    (rb"PK\x03\x04", "a workbook or a zip archive", "If it is a workbook, rename it to .xlsx; if not, unpack it."),
    (rb"PAR1", "Parquet", "Rename it to .parquet."),
    (rb"\xd0\xcf\x11\xe0", "an old workbook (XLS), or one with a password", f"{SPREADSHEET}, without a password."),
    (rb"\x28\xb5\x2f\xfd|BZh[1-9]1AY|\xfd7zXZ|7z\xbc\xaf|Rar!", "compressed", "Unpack it."),
    (rb"%PDF-|SQLite format 3\0", "a PDF or a database", "Export the table as .csv in UTF-8."),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|table|meta)\b", "an HTML page", f"{SPREADSHEET}."),
    (rb"(\xef\xbb\xbf)?\s*<\?xml\b", "XML", f"{SPREADSHEET}."),
)
MAY_BE_TEXT = ("an HTML page", "XML")  # whose lines may be examples
RIGHT = {".xlsx": rb"PK\x03\x04", ".parquet": rb"PAR1"}  # what files of these suffixes begin with


def refuse_other_content(source: RawFile, suffix: str) -> None:
    """Raise FinetuneError if the content of a file is clearly not what its suffix says."""
    with source.open() as content:
        head = content.read(HEAD)
    if suffix in RIGHT and re.match(RIGHT[suffix], head):
        return
    for begin, name, remedy in KINDS:
        if re.match(begin, head) and not (suffix == ".txt" and name in MAY_BE_TEXT):
            raise FinetuneError(f"{source.path} is {name}, not {suffix[1:].upper()}.", remedy)
    if suffix in (".csv", ".tsv") and is_json(head):
        raise FinetuneError(f"{source.path} is JSON, not {suffix[1:].upper()}.", "Rename it to .jsonl or .json.")
    if suffix == ".xlsx":
        raise FinetuneError(f"{source.path} is not a workbook.", "Save it as .xlsx again. A table as text is .csv.")


def is_json(head: bytes) -> bool:
    """Return whether a text begins with a line that is a JSON object, or with a list of objects."""
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    with suppress(orjson.JSONDecodeError):
        if isinstance(orjson.loads(begin.split(b"\n", 1)[0]), dict):
            return True
    return re.match(rb"\[\s*\{\s*\"", begin) is not None
