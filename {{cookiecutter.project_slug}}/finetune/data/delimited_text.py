"""Read the records of delimited text (CSV, TSV and the like) with the line where each begins."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from finetune.core.errors import FinetuneError
from finetune.data.raw_file import RawFile

BREAKS = ("\r", "\n")
LINES_OF_HEADER = 100  # at most
LARGEST_CELL = 2**31 - 1  # the csv module's default, 131,072, is less than a document may have
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.I)  # Excel writes it above the header
PLAIN_QUOTES = "If quotes are plain characters in this file, set data.quoting in params.yaml to none."
LONE_BACKSLASH = re.compile(r'\\(?!")')
Record = tuple[int, int, list[str]]  # its first line, its last line, its cells
Escapes = Literal["none", "quotes", "both"]  # what a backslash escapes; both: quotes and backslashes


@dataclass(frozen=True)
class Dialect:
    """What separates cells, whether a quote at a cell's beginning encloses it, and how a quote inside is written.

    With `escapes`, quotes only enclose cells or follow a backslash; else a quote inside a quoted cell is doubled.
    """

    delimiter: str
    quoted: bool
    escapes: Escapes = "none"

    @property
    def quoting(self) -> Literal[0, 3]:
        """The parameter of the csv module."""
        return 0 if self.quoted else 3  # QUOTE_MINIMAL, QUOTE_NONE

    @property
    def escaping(self) -> dict[str, Any]:
        """Further parameters of the csv module."""
        return {} if self.escapes == "none" else {"doublequote": False, "escapechar": "\\"}

    @property
    def quote_style(self) -> str:
        """How quotes are read, in a word."""
        return "backslash" if self.escaping else "standard" if self.quoted else "none"

    @property
    def name(self) -> str:
        """The delimiter in words."""
        return NAMES.get(self.delimiter, repr(self.delimiter))


def read_records(source: RawFile, dialect: Dialect) -> Iterator[Record]:
    """Yield the records that are not blank lines; cells are exactly as they are written.

    Raises FinetuneError with the line of a quote that is not closed, of text after a closing quote, and of a NUL.
    """
    csv.field_size_limit(LARGEST_CELL)
    form = escaped_form(dialect.delimiter) if dialect.escaping else None
    lines: list[str] = []  # those of the record that is being read
    end = line_end(source)
    other_end = "\n" if end == "\r" else "\r"  # only the last line can end with it
    with source.text(newline="\r" if end == "\r" else "\n") as text:
        reader = csv.reader(
            physical_lines(text, lines, source, dialect),
            delimiter=dialect.delimiter,
            quoting=dialect.quoting,
            strict=True,
            **dialect.escaping,
        )
        before = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                refuse_quotes(source, dialect, lines, before + 1, error)
            if lines[-1].removesuffix(end).endswith(BREAKS) and lines[-1].endswith((end, other_end)):
                refuse_line_end(source, reader.line_num)
            if form and not form.fullmatch("".join(lines)):
                refuse_escapes(source, before + 1)
            if cells and not (before == 0 and len(lines) == 1 and SEPARATOR_LINE.fullmatch(lines[0])):
                yield before + 1, reader.line_num, cells
            before = reader.line_num
            lines.clear()


def escaped_form(delimiter: str) -> re.Pattern[str]:
    """Return the form of a record where each quote encloses a cell or follows a backslash inside such a cell."""
    cell = rf'(?:"[^"\\]*(?:\\.[^"\\]*)*"|[^"\r\n{re.escape(delimiter)}]*)'
    return re.compile(rf"{cell}(?:{re.escape(delimiter)}{cell})*[\r\n]*", re.S)


def refuse_escapes(source: RawFile, line: int) -> NoReturn:
    """Raise FinetuneError for a record with a quote that neither encloses a cell nor follows a backslash in one."""
    raise FinetuneError(
        f'{source.path}, line {line}: a quote stands in a cell without quotes, and other cells write it as \\".',
        'Quote that cell, and write each quote inside cells as "".',
    )


def line_end(source: RawFile) -> str:
    """Return what ends the first record of a text, the header: LF, CR or both. Names in quotes may have line breaks."""
    with source.text(newline="") as text:
        lines = [text.readline()]
        while is_open(lines, source) and (line := text.readline()):
            lines.append(line)
        first = lines[0] if is_open(lines, source) else lines[-1]
    return next((end for end in ("\r\n", "\r") if first.endswith(end)), "\n")


def is_open(lines: list[str], source: RawFile) -> bool:
    """Return whether a quote is open after the first lines of a text. A header has few lines, so of many it is not."""
    quotes = sum(line.count('"') for line in lines)
    return source.options.quoting != "none" and quotes % 2 == 1 and len(lines) < LINES_OF_HEADER


def refuse_line_end(source: RawFile, line: int) -> NoReturn:
    """Raise FinetuneError for a line that ends with CR and LF where the first ends with LF: CR may be the cell's."""
    raise FinetuneError(
        f"{source.path}, line {line}: ends with another line break than the first line.",
        "End all lines in the same way, or quote the cell that ends with a line break.",
    )


def physical_lines(text: Iterator[str], lines: list[str], source: RawFile, dialect: Dialect) -> Iterator[str]:
    """Yield the lines of a text, and add each to `lines`. Raises FinetuneError for a NUL and a space before a quote."""
    delimiter = re.escape(dialect.delimiter)
    # Inside a quoted cell a single quote is followed by a delimiter or the line's end, so it never looks like this.
    space_before_quote = re.compile(rf'(?:^|{delimiter})[ \t]+"[^"{delimiter}\r\n]')
    if dialect.delimiter == "\t":
        space_before_quote = re.compile(r'(?:^|\t) +"[^"\t\r\n]')
    for number, line in enumerate(text, 1):
        if "\0" in line:
            raise FinetuneError(
                f"{source.path}, line {number}: contains a NUL character.",
                "Save the file as text in UTF-8. If it is UTF-16, set data.encoding in params.yaml to utf-16.",
            )
        if dialect.quoted and '"' in line and space_before_quote.search(line):
            raise FinetuneError(
                f"{source.path}, line {number}: a space stands before the quote of a cell.",
                f"Remove the spaces after each {dialect.name}. {PLAIN_QUOTES}",
            )
        lines.append(line)
        yield LONE_BACKSLASH.sub(r"\\\\", line) if dialect.escapes == "quotes" else line


def refuse_quotes(source: RawFile, dialect: Dialect, lines: list[str], first: int, error: csv.Error) -> NoReturn:
    """Raise FinetuneError for a record with wrong quotes, with the line where the quote of its last cell opens."""
    opened, last = first + line_of_last_quote(lines, dialect.delimiter), first + len(lines) - 1
    if "end of data" in str(error):
        what, remedy = "a quote opens a cell here, and no quote closes it", 'Close it. Write a quote in a cell as "".'
    elif "after" in str(error):
        what = "text follows the quote that closes a cell"
        if opened < last:
            what = f"a quote opens a cell here, which ends in line {last}, where text follows the closing quote"
        remedy = 'Write a quote inside a quoted cell as "".'
        if '\\"' in "".join(lines):
            remedy = 'Write a quote inside a quoted cell as "", not as \\".'
    elif "new-line" in str(error):
        opened, what = last, "a line break of another kind stands in a cell without quotes"
        remedy = "Quote the cell, or end all lines in the same way."
    else:
        what, remedy = str(error), "Correct that line."
    raise FinetuneError(f"{source.path}, line {opened}: {what}.", f"{remedy} {PLAIN_QUOTES}") from error


def line_of_last_quote(lines: list[str], delimiter: str) -> int:
    """Return the index of the line where the last quoted cell of a record opens."""
    opened = 0
    inside, closed, at_start = False, False, True
    for index, line in enumerate(lines):
        for letter in line:
            if letter == '"' and (closed or (at_start and not inside)):
                opened = opened if closed else index
                inside, closed = True, False
            elif inside:
                inside, closed = letter != '"', letter == '"'
            else:
                closed = False
            at_start = not inside and not closed and letter in (delimiter, "\r", "\n")
    return opened
