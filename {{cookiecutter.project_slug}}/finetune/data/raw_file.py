"""A file of raw data: its path, compression and encoding, and its content as bytes or text."""

import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

Row = dict[str, Any]
Note = dict[str, str]  # how a file was read: format, encoding, compression, sheet


@dataclass(frozen=True)
class RawFile:
    """A file of rows."""

    path: Path
    gzipped: bool
    sheet: str | None
    encoding: str = "utf-8"

    def open(self) -> BinaryIO:
        return cast("BinaryIO", gzip.open(self.path) if self.gzipped else open(self.path, "rb"))

    def bytes(self) -> io.BytesIO:
        """Return the whole content, for libraries that seek."""
        with self.open() as content:
            return io.BytesIO(content.read())

    def text(self, newline: str | None) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.open(), self.encoding, newline=newline)

    def lines(self, newline: str | None) -> Iterator[str]:
        """Yield the lines that are not blank."""
        with self.text(newline) as text:
            for line in text:
                if line.strip():
                    yield line
