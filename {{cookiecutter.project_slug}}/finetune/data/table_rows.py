"""Read the rows of delimited text. A record that is not exactly as long as the header is refused with its line."""

from collections.abc import Iterator

from finetune.core.errors import FinetuneError
from finetune.data.column_names import (
    column_names,
    is_header,
    is_rule,
    listed,
    refuse_repeated_header,
    refuse_rule,
    unnamed_columns,
)
from finetune.data.delimited_text import PLAIN_QUOTES, Dialect, read_records
from finetune.data.raw_file import RawFile, Row
from finetune.data.swallowed_rows import first_swallowed, suspects_of

NAMED = 10  # lines in an error


class OtherLengths:
    """The records that are longer or shorter than the header."""

    def __init__(self, header: list[str], header_line: int) -> None:
        self.header, self.header_line = header, header_line
        self.count = self.multiline = 0
        self.lengths: set[int] = set()
        self.named: list[tuple[int, int]] = []  # line and number of cells
        self.ends_empty = True  # each has one more cell, which is empty

    def add(self, first: int, last: int, cells: list[str]) -> None:
        self.count += 1
        self.lengths.add(len(cells))
        self.ends_empty = self.ends_empty and len(cells) == len(self.header) + 1 and not cells[-1]
        if last > first and not self.multiline:
            self.multiline = first
        if len(self.named) < NAMED:
            self.named.append((first, len(cells)))

    def error(self, source: RawFile, dialect: Dialect, rows: int) -> FinetuneError:
        """Return the error for them. `rows` is how many records have the header's length."""
        width = len(self.header)
        cells = f"{width} cell{'s' if width > 1 else ''}"
        lines = listed([f"line {line} ({found} cells)" for line, found in self.named], self.count)
        what = f"{source.path}: the header has {cells}, but {self.count} records have another number: {lines}."
        if self.count == 1:
            line, found = self.named[0]
            what = f"{source.path}, line {line}: {found} cells, but the header has {width}."
        remedy = f"Quote cells that contain a {dialect.name}."
        if width == 1 and source.options.delimiter is None:
            remedy += " If another character separates the cells, set data.delimiter in params.yaml to it."
        if self.multiline:
            remedy = f"{remedy} Is the quote of line {self.multiline} closed? {PLAIN_QUOTES}"
        elif not dialect.quoted:
            remedy = f"Remove {dialect.name}s inside cells. If quotes enclose cells, set data.quoting to standard."
        if not rows and self.ends_empty:
            remedy = f"Remove the {dialect.name} at the end of each line, or add one to the header."
        elif not rows and self.lengths == {width - 1} and not self.header[-1].strip():
            remedy = f"Remove the {dialect.name} at the end of the header."
        elif not rows and len(self.lengths) == 1 and width < min(self.lengths):
            remedy = f"{remedy} If line {self.header_line} is a title, remove it: the names of the columns come first."
        return FinetuneError(what, remedy)


def table_rows(source: RawFile, dialect: Dialect) -> Iterator[Row]:
    """Yield the rows of delimited text that are not blank; cells are strings.

    Raises FinetuneError with the line of a row that repeats the header; after the last row, with the lines of records
    of another length than the header, of cells in columns without a name, and of cells that contain whole records,
    which a stray quote causes.
    """
    records = read_records(source, dialect)
    header_line, _, header = next(records, (1, 1, [""]))
    if header == [""]:
        return
    names, unnamed = column_names(header, f"{source.path}, line {header_line}"), unnamed_columns(header)
    width, rows = len(names), 0
    other, in_unnamed = OtherLengths(header, header_line), list[int]()
    suspicious = False
    for first, last, cells in records:
        is_blank = not any(map(str.strip, cells))
        if source.leaves_out(is_blank) or (is_blank and len(cells) != width):  # as spreadsheets write empty rows
            continue
        if len(cells) != width:
            other.add(first, last, cells)
            continue
        if unnamed and any(cells[index] for index in unnamed):
            in_unnamed.append(first)
        if is_header(cells, header):
            refuse_repeated_header(f"{source.path}, line {first}")
        if not rows and is_rule(cells):
            refuse_rule(f"{source.path}, line {first}")
        if last > first and not suspicious:
            suspicious = any(True for _ in suspects_of(first, cells, dialect.delimiter))
        rows += 1
        if not (other.count or in_unnamed):
            source.places.add(rows, first)
            yield dict(zip(names, cells, strict=True))
    if other.count:
        raise other.error(source, dialect, rows)
    if in_unnamed:
        refuse_unnamed(source, header, unnamed, in_unnamed, header_line)
    if suspicious and source.options.quoting == "auto" and (found := first_swallowed(source, dialect, width)):
        raise FinetuneError(
            f"{source.path}, line {found.line}: the quote that opens a cell here takes in {found.breaks} more lines,"
            " which look like rows.",
            f'Close the quote, or write it as "". If the cell is right, set data.quoting to standard. {PLAIN_QUOTES}',
        )


def refuse_unnamed(source: RawFile, header: list[str], unnamed: list[int], lines: list[int], header_line: int) -> None:
    """Raise FinetuneError for cells in columns that have no name."""
    places = listed([f"line {line}" for line in lines[:NAMED]], len(lines))
    title = f" If line {header_line} is a title, remove it." if len(unnamed) == len(header) - 1 else ""
    raise FinetuneError(
        f"{source.path}: column {unnamed[0] + 1} has no name in the header, but there are cells in it: {places}.",
        f"Write its name in the header. If a cell contains the delimiter, quote that cell.{title}",
    )
