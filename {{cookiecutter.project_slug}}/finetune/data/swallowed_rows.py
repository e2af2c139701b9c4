"""Find cells that contain whole rows: a stray quote encloses all that follows, up to the next quote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetune.data.delimited_text import Dialect, read_records
from finetune.data.raw_file import RawFile

TOLERATED = 0.2  # share of lines that do not look like a row
LINES_NEEDED = 3  # where no column has the same few values
MOST_VALUES = 1_000  # different values of a column that are kept
FEWEST_ROWS = 10

Piece = tuple[int, str]  # a column, and its cell if the line is a row


@dataclass(frozen=True)
class Suspect:
    """A cell that contains line breaks, whose lines have as many delimiters as rows have."""

    line: int  # where its quote opens
    breaks: int
    lines: list[list[Piece]]  # without quotes, each line is a row with these cells; [] if it has another length


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
    known, spaced = known_values(source, dialect, width)
    records = (record for record in read_records(source, dialect) if record[0] < record[1] and len(record[2]) == width)
    suspects = (one for first, _, cells in records for one in suspects_of(first, cells, dialect.delimiter))
    return next((one for one in suspects if contains_rows(one, known, spaced)), None)


def contains_rows(suspect: Suspect, known: Sequence[set[str] | None], spaced: Sequence[bool]) -> bool:
    """Return whether the lines of a cell look like rows."""

    def fits(piece: Piece) -> bool:
        column, text = piece
        values = known[column]
        return kind_of(text) in values if values is not None else spaced[column] or not text.startswith(" ")

    judged = any(known[column] is not None for pieces in suspect.lines for column, _ in pieces)
    if not judged and len(suspect.lines) < LINES_NEEDED:
        return False
    wrong = sum(not pieces or not all(map(fits, pieces)) for pieces in suspect.lines)
    return wrong <= TOLERATED * len(suspect.lines)


def kind_of(text: str) -> str:
    """Return a text, and the same text for all numbers."""
    return "0" if text.isdecimal() else text


def known_values(source: RawFile, dialect: Dialect, width: int) -> tuple[list[set[str] | None], list[bool]]:
    """Return the values of each column that has few different ones, and whether its cells begin with spaces.

    The values of other columns are None. Only records of one line count.
    """
    values: list[set[str] | None] = [set() for _ in range(width)]
    spaced, rows = [0] * width, 0
    records = read_records(source, dialect)
    next(records)
    for first, last, cells in records:
        if first == last and len(cells) == width and any(cells):
            rows += 1
            for column, cell in enumerate(cells):
                spaced[column] += cell.startswith(" ")
                found = values[column]
                if found is not None:
                    found.add(kind_of(cell))
                    if len(found) > MOST_VALUES:
                        values[column] = None
    few = [found if found and rows >= FEWEST_ROWS and 2 * len(found) <= rows else None for found in values]
    return few, [count > rows / 10 for count in spaced]
