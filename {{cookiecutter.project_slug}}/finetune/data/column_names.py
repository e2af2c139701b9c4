"""The names of a table's columns, as its header has them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NoReturn

from finetune.core.errors import FinetuneError

INVISIBLE = "\ufeff\u200b"  # marks of a byte order, and spaces without width
RULE = re.compile(r"[-=:+]{3,}")  # what some programs write below the names of columns


def column_names(header: Sequence[str], place: str) -> list[str]:
    """Return the names without spaces and invisible letters at their ends; "column 3" for the third if it has none.

    Raises FinetuneError for two columns of one name, and where no column has a name.
    """
    texts = [name.strip().strip(INVISIBLE).strip() for name in header]
    if not any(texts):
        raise FinetuneError(f"{place}: the columns have no names.", "Write the names of the columns in the first row.")
    names = [text or f"column {number}" for number, text in enumerate(texts, 1)]
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names, 1):
        positions[name].append(number)
    for name, numbers in positions.items():
        if len(numbers) > 1:
            raise FinetuneError(
                f"{place}: columns {' and '.join(map(str, numbers))} have the same name, {name!r}.",
                "Rename or remove all but one of them.",
            )
    return names


def unnamed_columns(header: Sequence[str]) -> list[int]:
    """Return the indices of columns without a name that must be empty: all but the first, which may be an index."""
    return [index for index, name in enumerate(header) if index and not name.strip()]


def is_header(cells: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row below a header of several columns is the same header, as in joined files."""
    # The second of two joined files may begin with a byte-order mark, which makes the quotes of its first cell letters.
    mark = '\ufeff"'
    return len(header) > 1 and cells[1:] == header[1:] and cells[0].strip(mark) == header[0].strip(mark)


def is_rule(cells: Sequence[str]) -> bool:
    """Return whether a row is a line below the header: cells of dashes, as in Markdown and SQL."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return len(cells) > 1 and bool(filled) and all(map(RULE.fullmatch, filled))


def refuse_repeated_header(place: str) -> NoReturn:
    """Raise FinetuneError for a row with the cells of the header."""
    raise FinetuneError(
        f"{place}: has the same cells as the header.",
        "If files were joined, remove that row. If the file has no header, write the names of the columns above it.",
    )


def refuse_rule(place: str) -> NoReturn:
    """Raise FinetuneError for a line below the header."""
    raise FinetuneError(f"{place}: is a line of dashes below the header, and no row.", "Remove it.")


def listed(places: Sequence[str], count: int) -> str:
    """Return places as text, with how many more there are."""
    more = f" and {count - len(places)} more" if count > len(places) else ""
    return ", ".join(places) + more
