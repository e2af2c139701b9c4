"""Lines of a file as one run of bytes, in which a cheap test looks at all lines at once.

Searching bytes is about ten times faster than looking at the lines one by one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

ASCII = bytes(range(128))


@dataclass(frozen=True)
class LineBlock:
    """Some lines, each the JSON of an example."""

    content: bytes  # the lines, with b"\n" between them

    @cached_property
    def lines(self) -> list[bytes]:
        return self.content.split(b"\n")

    @cached_property
    def letters(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.content, np.uint8)

    @cached_property
    def starts(self) -> NDArray[Any]:
        """The place of each line's first byte."""
        return np.concatenate([[0], np.flatnonzero(self.letters == ord("\n")) + 1])

    @cached_property
    def capitals(self) -> NDArray[Any]:
        """The number of ASCII capitals of each line."""
        places = np.flatnonzero(self.letters - ord("A") < 26)
        counts: NDArray[Any] = np.diff(np.searchsorted(places, [*self.starts, len(self.letters)]))
        return counts

    @cached_property
    def beyond_ascii(self) -> bytes:
        """The bytes of all characters beyond ASCII."""
        return b"" if self.content.isascii() else self.content.translate(None, ASCII)

    @cached_property
    def lines_beyond_ascii(self) -> NDArray[Any]:
        """The numbers of the lines with characters beyond ASCII."""
        return self.lines_at(np.flatnonzero(self.letters > 127))

    def lines_at(self, places: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers of the lines in which bytes at these places are, each once."""
        return np.unique(np.searchsorted(self.starts, places, "right") - 1)

    def lines_with(self, mark: bytes) -> Iterator[int]:
        """Yield the numbers of the lines that contain `mark`."""
        return lines_with(self.content, mark)


LineTest = Callable[[LineBlock], Iterable[int]]  # the numbers, from 0, of the lines that pass


def lines_with(content: bytes, mark: bytes) -> Iterator[int]:
    """Yield the numbers, from 0, of the lines of `content` that contain `mark`, each once."""
    line = place = 0
    while (at := content.find(mark, place)) >= 0:
        line += content.count(b"\n", place, at)
        yield line
        place = content.find(b"\n", at)
        if place < 0:
            return
