"""Choose how to read delimited text: what separates its cells, and whether quotes enclose them."""

import csv
import re
from collections import Counter

from finetune.core.errors import FinetuneError
from finetune.data.delimited_text import LARGEST_CELL, NAMES, SEPARATOR_LINE, Dialect, line_end, read_records
from finetune.data.escaped_quotes import escapes_of, has_escaped_quotes
from finetune.data.raw_file import RawFile

SAMPLE = 200_000  # letters that decide the delimiter
MOSTLY = 0.9
ENCLOSED = re.compile(r'"(?:[^"]|"")*"', re.S)


def choose_dialect(source: RawFile, usual: str) -> Dialect:
    """Return the dialect of a file. `usual` is the delimiter of its suffix; `data.delimiter` and `data.quoting` decide.

    Raises FinetuneError where two delimiters are as likely.
    """
    delimiter, quoting = source.options.delimiter or choose_delimiter(source, usual), source.options.quoting
    if quoting == "auto" and (escaped := escaped_dialect(source, delimiter)):
        return escaped
    if quoting == "auto" and delimiter == "\t":
        return Dialect(delimiter, is_quoted(source, delimiter))
    return Dialect(delimiter, quoting != "none")


def escaped_dialect(source: RawFile, delimiter: str) -> Dialect | None:
    """Return the dialect with escaped quotes if the file is right in it, and wrong where quotes are doubled."""
    if not has_escaped_quotes(source):
        return None
    is_right = [not wrong_records(source, Dialect(delimiter, True, escapes)) for escapes in ("none", "both")]
    return Dialect(delimiter, True, escapes_of(source)) if is_right == [False, True] else None


def choose_delimiter(source: RawFile, usual: str) -> str:
    """Return the delimiter that gives each record of the file's beginning as many cells as the header, at least 2.

    If there is none, return the usual one, unless another one fits most records, or all records but a title above them.
    """
    with source.text(newline="") as text:
        sample, whole = text.read(SAMPLE), not text.read(1)
    if found := SEPARATOR_LINE.match(sample):
        return found[1]
    quoted = source.options.quoting != "none"
    end = "\r" if line_end(source) == "\r" else "\n"
    counts = {one: cell_counts(sample, Dialect(one, quoted), end, whole) for one in NAMES}
    shares = {one: share_that_fits(found) for one, found in counts.items()}
    if quoted and '\\"' in sample and 1 not in shares.values():
        escaped = {one: cell_counts(sample, Dialect(one, True, "both"), end, whole) for one in NAMES}
        shares |= {one: 1.0 for one, found in escaped.items() if share_that_fits(found) == 1}
    fitting = [one for one, share in shares.items() if share == 1]
    if len(fitting) > 1:
        names = " or ".join(NAMES[one] for one in sorted(fitting))
        raise FinetuneError(
            f"{source.path}: the cells may be separated by {names}.",
            "Set data.delimiter in params.yaml to one of them.",
        )
    if not any(shares.values()) and (below_title := next(filter(lambda one: is_below_title(counts[one]), NAMES), None)):
        return below_title
    best = max(shares, key=lambda one: (shares[one], one == usual))
    return best if shares[best] > MOSTLY or (shares[usual] == 0 and shares[best] > 0.5) else usual


def cell_counts(sample: str, dialect: Dialect, end: str, whole: bool) -> list[int]:
    """Return the number of cells of each record that is not blank; [] if the sample cannot be read so."""
    csv.field_size_limit(LARGEST_CELL)
    lines = (line + end for line in sample.split(end))
    try:
        records = list(csv.reader(lines, delimiter=dialect.delimiter, quoting=dialect.quoting, **dialect.escaping))
    except csv.Error:  # reading the file names the line
        return []
    counts = [len(cells) for cells in records if any(map(str.strip, cells))]
    return counts if whole or len(counts) < 2 else counts[:-1]  # the last one may be cut off


def share_that_fits(counts: list[int]) -> float:
    """Return the share of records with as many cells as the header; 0 if that is 1."""
    return counts.count(counts[0]) / len(counts) if counts and counts[0] > 1 else 0


def is_below_title(counts: list[int]) -> bool:
    """Return whether all records but the first, which is one cell, have the same number of cells."""
    return len(counts) > 3 and counts[0] == 1 < counts[1] and len(set(counts[1:])) == 1


def is_quoted(source: RawFile, delimiter: str) -> bool:
    """Return whether quotes enclose the cells of tab-separated text; in most such files they are plain characters.

    The reading that gives records of equal length decides. If both do, each cell with a quote must be enclosed, and
    quotes inside cells be doubled or a whole column be enclosed. Raises FinetuneError where quotes may
    enclose a cell of several lines, unless all names in the header are enclosed.
    """
    plain, quoted = Dialect(delimiter, False), Dialect(delimiter, True)
    with source.text(newline="") as text:
        if not any('"' in line for line in text):
            return False
    if_plain, if_quoted = wrong_records(source, plain), wrong_records(source, quoted)
    if if_plain or if_quoted:
        return if_quoted < if_plain
    if several := next((first for first, last, _ in read_records(source, quoted) if first < last), None):
        _, _, header = next(read_records(source, plain))
        if all(map(ENCLOSED.fullmatch, header)):
            return True
        raise FinetuneError(
            f"{source.path}, line {several}: a quote here may enclose a cell of several lines, or be plain text.",
            "Set data.quoting in params.yaml to standard (it encloses a cell) or to none.",
        )
    return encloses_cells(source, plain)


def wrong_records(source: RawFile, dialect: Dialect) -> float:
    """Return how many records have another number of cells than the header; infinity if quotes are wrong."""
    counts: Counter[int] = Counter()
    width = 0
    try:
        for _, _, cells in read_records(source, dialect):
            width = width or len(cells)
            counts[len(cells)] += any(map(str.strip, cells))
    except FinetuneError:
        return float("inf")
    return counts.total() - counts[width]


def encloses_cells(source: RawFile, plain: Dialect) -> bool:
    """Return whether cells are clearly enclosed in quotes."""
    doubled, rows = False, 0
    enclosed: Counter[int] = Counter()
    for _, _, cells in read_records(source, plain):
        rows += 1
        for column, cell in enumerate(cells):
            if '"' in cell:
                if not ENCLOSED.fullmatch(cell):
                    return False
                enclosed[column] += 1
                doubled = doubled or cell == '""' or '""' in cell[1:-1]
    return doubled or rows in enclosed.values()
