"""Find cells that contain whole rows: a stray quote encloses all that follows, up to the next quote."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from finetune.data.delimited_text import Dialect, read_records
from finetune.data.raw_file import RawFile

TOLERATED = 0.2  # share of lines that do not look like a row
LINES_NEEDED = 3  # where no column has the same few values
MOST_VALUES = 1_000  # different values of a column that are kept
FEWEST_ROWS = 10
SELDOM = 0.02  # share of cells with a delimiter inside
RARE = 0.05  # share of cells that begin or end so

Piece = tuple[int, str]  # a column, and its cell if the line is a row


@dataclass(frozen=True)
class Suspect:
    """A cell that contains line breaks, whose lines have as many delimiters as rows have."""

    line: int  # where its quote opens
    breaks: int
    lines: list[list[Piece]]  # without quotes, each line is a row with these cells; [] if it has another length


@dataclass
class KnownColumn:
    """What the cells of a column look like."""

    values: set[str] | None = field(default_factory=set)  # None if they are many
    rows: int = 0
    spaced: int = 0  # cells that begin with a space
    separated: int = 0  # cells with a delimiter inside, and no space after it
    shortest: int = 2**31
    longest: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)  # how cells begin and end

    def add(self, cell: str, is_separated: bool) -> None:
        """Count a cell."""
        self.rows += 1
        self.spaced += cell.startswith(" ")
        self.separated += is_separated
        self.shortest, self.longest = min(self.shortest, len(cell)), max(self.longest, len(cell))
        self.ends.update(ends_of(cell))
        if self.values is not None:
            self.values.add(kind_of(cell))
            if len(self.values) > MOST_VALUES:
                self.values = None

    def keep_few_values(self) -> None:
        """Forget the values if they do not repeat."""
        if not self.values or self.rows < FEWEST_ROWS or 2 * len(self.values) > self.rows:
            self.values = None

    def has(self, text: str) -> bool:
        """Return whether a text is a value of the column; of many values, whether it begins like them."""
        if self.values is not None:
            return kind_of(text) in self.values
        return self.spaced > self.rows / 10 or not text.startswith(" ")

    def looks_like(self, text: str, is_whole: bool) -> bool:
        """Return whether a text has about the length, the first and the last letter of a cell of the column.

        The last letter counts only for a text that `is_whole`: the quote that closes may be text, as in 15".
        """
        begins, ends = ends_of(text)
        is_usual = min(self.ends[begins], self.ends[ends] if is_whole else self.rows) > RARE * self.rows
        return self.shortest / 2 <= len(text) <= 2 * self.longest and is_usual


def ends_of(text: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the kinds of the first and the last letter of a text. One space is not the indent of a line of code."""
    return ("first", "indent" if text.startswith("  ") else letter_kind(text[:1])), ("last", letter_kind(text[-1:]))


def letter_kind(letter: str) -> str:
    """Return a sign itself, and one text each for all capitals, small letters, other letters and digits."""
    if not letter.isalnum():
        return letter
    return "A" if letter.isupper() else "a" if letter.islower() else "0" if letter.isdecimal() else "字"


def suspects_of(first: int, cells: Sequence[str], delimiter: str) -> Iterator[Suspect]:
    """Yield the cells of a record whose lines may be rows. `first` is the record's first line.

    Of a table with one column nothing is known: each line may be a row.
    """
    line, width = first, len(cells)
    for column, cell in enumerate(cells if width > 1 else ()):
        texts = cell.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if len(texts) > 1:
            # The first line has the cells before this one, and the last line those after it.
            bounds = [(column, width), *[(0, width)] * (len(texts) - 2), (0, column + 1)]
            lines = [
                pieces_of(text, delimiter, *bound) for text, bound in zip(texts, bounds, strict=True) if text.strip()
            ]
            enough = sum(not pieces for pieces in lines) <= TOLERATED * len(lines)
            if lines and lines[0] and lines[-1] and enough:
                yield Suspect(line, len(texts) - 1, lines)
        line += len(texts) - 1


def pieces_of(text: str, delimiter: str, start: int, end: int) -> list[Piece]:
    """Return the cells of a line for the columns from `start` to `end`; [] if their number is another."""
    pieces = text.split(delimiter)
    return list(zip(range(start, end), pieces, strict=True)) if len(pieces) == end - start else []


def first_swallowed(source: RawFile, dialect: Dialect, width: int) -> Suspect | None:
    """Return the first cell whose lines are rows, by what the other rows have in their columns; None if there is none.

    This reads the file twice, so call it only for a file with suspects.
    """
    columns = columns_of(source, dialect, width)
    records = (record for record in read_records(source, dialect) if record[0] < record[1] and len(record[2]) == width)
    suspects = (one for first, _, cells in records for one in suspects_of(first, cells, dialect.delimiter))
    return next((one for one in suspects if contains_rows(one, columns)), None)


def contains_rows(suspect: Suspect, columns: Sequence[KnownColumn]) -> bool:
    """Return whether the lines of a cell look like rows.

    Where no column has few values, each piece must look like a whole cell of its column. If the cells of a file often
    contain the delimiter, two such lines may be text.
    """
    judged = any(columns[column].values is not None for pieces in suspect.lines for column, _ in pieces)
    is_short = len(suspect.lines) < LINES_NEEDED
    is_small = columns[0].rows < FEWEST_ROWS
    if not judged and is_short and (is_small or any(one.separated > SELDOM * one.rows for one in columns)):
        return False
    by_looks = not judged and not is_small
    last = suspect.lines[-1][-1]

    def fits(piece: Piece) -> bool:
        column, text = piece
        if by_looks:
            return columns[column].looks_like(text, is_whole=piece is not last)
        return columns[column].has(text)

    wrong = sum(not pieces or not all(map(fits, pieces)) for pieces in suspect.lines)
    return wrong <= TOLERATED * len(suspect.lines)


def kind_of(text: str) -> str:
    """Return a text, and the same text for all numbers."""
    return "0" if text.isdecimal() else text


def columns_of(source: RawFile, dialect: Dialect, width: int) -> list[KnownColumn]:
    """Return what the cells of each column look like. Only records of one line count."""
    columns = [KnownColumn() for _ in range(width)]
    inside = re.compile(rf"{re.escape(dialect.delimiter)}\S")  # text often has a space after a comma or semicolon
    records = read_records(source, dialect)
    next(records)
    for first, last, cells in records:
        if first == last and len(cells) == width and any(cells):
            for column, cell in zip(columns, cells, strict=True):
                column.add(cell, inside.search(cell) is not None)
    for column in columns:
        column.keep_few_values()
    return columns
