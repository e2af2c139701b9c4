"""A file of raw data: its path, how to read it, its content as bytes or text, and its rows."""

import gzip
import io
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

Row = dict[str, Any]
Note = dict[str, str]  # how a file was read: format, encoding, compression, delimiter, sheet
Quoting = Literal["auto", "standard", "none"]


@dataclass(frozen=True)
class ReadOptions:
    """What `params.yaml` says about a file; what is None or "auto" is detected."""

    sheet: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quoting: Quoting = "auto"
    keep_all: bool = False  # rows without text in any cell, and rows that are not accepted, are rows
    keep_rejected: bool = False  # rows that an annotator of Prodigy rejected are rows


class Places:
    """Where each row is in its file: the line where it begins, or the row of the sheet; and how many are blank."""

    def __init__(self) -> None:
        self.in_sheet = False  # rows are numbered as in the file: in a sheet, a list of JSON, and Parquet
        self.blank = 0  # rows without text in any cell, which are left out
        self.not_accepted = 0  # rows that an annotator rejected or ignored, which are left out
        self.rows, self.lines = array("Q"), array("Q")  # the rows before which other lines stand, and their own lines

    def add(self, row: int, line: int) -> None:
        """Note the line of a row; call this for each row in its order."""
        if not self.rows or line - row != self.lines[-1] - self.rows[-1]:
            self.rows.append(row)
            self.lines.append(line)

    def line(self, row: int) -> int:
        """Return the line where a row begins, or its row in the sheet; the row's number if no line is known."""
        index = bisect_right(self.rows, row) - 1
        return self.lines[index] + row - self.rows[index] if index >= 0 else row


class Rows(Iterator[Row]):
    """The rows of a file, one by one, and the place of each row that was read."""

    def __init__(self, rows: Iterable[Row], places: Places) -> None:
        self.rows, self.places = iter(rows), places

    def __next__(self) -> Row:
        return next(self.rows)

    def number(self, count: int) -> int:
        """Return the number of a row in messages: in a sheet its own, elsewhere how many rows were read with it."""
        return self.places.line(count) if self.places.in_sheet else count

    def place(self, count: int) -> str:
        """Return the place of a row: "line 31, row 30"; in a sheet "row 31"."""
        number, line = self.number(count), self.places.line(count)
        return f"row {number}" if line == number else f"line {line}, row {number}"

    def place_of_all(self, counts: Sequence[int]) -> str:
        """Return the place of several rows: "lines 31, 40"; where rows are no lines "rows 31, 40"."""
        if len(counts) == 1:
            return self.place(counts[0])
        lines = list(map(self.places.line, counts))
        word = "rows" if lines == list(map(self.number, counts)) else "lines"
        return f"{word} {', '.join(map(str, lines))}"


@dataclass(frozen=True)
class RawFile:
    """A file of rows."""

    path: Path
    gzipped: bool
    options: ReadOptions = ReadOptions()
    encoding: str = "utf-8"
    places: Places = field(default_factory=Places)

    def open(self) -> BinaryIO:
        return cast("BinaryIO", gzip.open(self.path) if self.gzipped else open(self.path, "rb"))

    def bytes(self) -> io.BytesIO:
        """Return the whole content, for libraries that seek."""
        with self.open() as content:
            return io.BytesIO(content.read())

    def text(self, newline: str | None) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.open(), self.encoding, newline=newline)

    def leaves_out(self, is_blank: bool, is_unaccepted: bool = False) -> bool:
        """Return whether a row is left out, and count it if so."""
        if self.options.keep_all or not (is_blank or is_unaccepted):
            return False
        self.places.blank += is_blank
        self.places.not_accepted += not is_blank
        return True

    def lines(self, newline: str | None) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, with their numbers."""
        with self.text(newline) as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, line
