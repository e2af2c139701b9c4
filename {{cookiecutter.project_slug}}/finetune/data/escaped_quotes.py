"""Find out whether delimited text writes a quote inside a cell as a backslash and a quote, as MySQL, R and Spark do."""

import re
from collections.abc import Iterator

from finetune.core.errors import FinetuneError
from finetune.data.delimited_text import PLAIN_QUOTES, Escapes
from finetune.data.raw_file import RawFile

CHUNK = 1024**2
BACKSLASH = re.compile(r"\\(.|\n|\Z)", re.S)


def has_escaped_quotes(source: RawFile) -> bool:
    """Return whether a backslash stands before a quote somewhere in a text, or may in UTF-16 and UTF-32."""
    if source.encoding.startswith(("utf-16", "utf-32")):
        return True
    last = b""
    with source.open() as content:
        while chunk := content.read(CHUNK):
            if b'\\"' in chunk or (last == b"\\" and chunk.startswith(b'"')):
                return True
            last = chunk[-1:]
    return False


def escapes_of(source: RawFile) -> Escapes:
    """Return what backslashes escape in a text with escaped quotes: quotes, or backslashes too.

    Programs that escape backslashes write each of them twice. Raises FinetuneError where some are single and some
    double, because such a text can be read in two ways, and where a backslash stands at a line's end.
    """
    doubled = single = False
    for number, letter in after_backslashes(source):
        doubled, single = doubled or letter == "\\", single or letter not in '\\"'
        if (doubled and single) or letter in ("", "\r", "\n"):
            raise FinetuneError(
                f'{source.path}, line {number}: quotes inside cells are written as \\", and a backslash here may be'
                " text, or escape what follows.",
                f'Export the table with quotes inside cells written as "". {PLAIN_QUOTES}',
            )
    return "both" if doubled else "quotes"


def after_backslashes(source: RawFile) -> Iterator[tuple[int, str]]:
    """Yield the letter after each backslash that is not escaped itself, with its line."""
    with source.text(newline="") as text:
        for number, line in enumerate(text, 1):
            if "\\" in line:
                yield from ((number, found[1]) for found in BACKSLASH.finditer(line))
