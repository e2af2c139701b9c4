"""The names of a table's columns, as its header has them."""

from collections import defaultdict
from collections.abc import Sequence

from finetune.core.errors import FinetuneError


def column_names(header: Sequence[str], place: str) -> list[str]:
    """Return the names without spaces at their ends; "column 3" for the third column if it has none.

    Raises FinetuneError for two columns of one name, and where no column has a name.
    """
    if not any(name.strip() for name in header):
        raise FinetuneError(f"{place}: the columns have no names.", "Write the names of the columns in the first row.")
    names = [name.strip() or f"column {number}" for number, name in enumerate(header, 1)]
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


def listed(places: Sequence[str], count: int) -> str:
    """Return places as text, with how many more there are."""
    more = f" and {count - len(places)} more" if count > len(places) else ""
    return ", ".join(places) + more
