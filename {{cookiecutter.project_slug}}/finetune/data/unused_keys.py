"""Count the keys of rows that are not used."""

from collections import Counter
from collections.abc import Iterable

MOST_NAMES = 100


class UnusedKeys:
    """How many rows have each unused key: the first names in alphabetical order, and the sum of all others.

    Which names are kept does not depend on the order of the rows, and few names are held, however many there are.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.others = 0

    def add(self, keys: Iterable[str]) -> None:
        """Count the keys of one row."""
        for key in keys:
            self.rows[key] += 1
            if len(self.rows) > MOST_NAMES:
                self.others += self.rows.pop(max(self.rows))
