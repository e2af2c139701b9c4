"""Examples in a temporary file, with an array row for each, so that more examples are split than memory holds."""

import json
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import SEEK_END
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.core.records.prepared import Example
from finetune.data.hashes import sha256_64
from finetune.data.identity import question_of
from finetune.data.question import Question
from finetune.data.raw_file import Row

# For each example: the number of its raw row, its split, its place in the file, and hashes of its question, of itself,
# and of the cells of its raw row that are kept after it (0: none).
SPOOL_DTYPE = np.dtype("i4, u1, i8, i4, u8, u8, u8")
SPOOL_DTYPE.names = ("row", "split", "start", "size", "question", "digest", "cells")
SpoolRows = NDArray[Any]  # of SPOOL_DTYPE
# The raw row's number, the split, the hashes of the key that decides the split and of the question, the example, and
# the cells to keep.
NewExample = tuple[int, int, int, int, Example, Row]

ROWS_AT_ONCE = 50_000  # examples that are collected before they are put into an array


@dataclass(frozen=True)
class SpooledExamples:
    """Examples in a file, and a row of SPOOL_DTYPE for each, in the order of the raw rows."""

    file: BinaryIO
    rows: SpoolRows
    keys: NDArray[np.uint64]  # of the rows: hashes that decide the splits
    convert: Callable[[Example], Example] | None = None  # applied when an example is read

    def example(self, row: Any) -> Example:
        example = dict(orjson.loads(self.line(row)))
        return self.convert(example) if self.convert else example

    def written(self, row: Any) -> bytes:
        """Return the line of a row's example in a prepared file."""
        return as_line(self.example(row)) if self.convert else self.line(row)

    def line(self, row: Any) -> bytes:
        """Return the line of a row's example as it was spooled."""
        self.file.seek(int(row["start"]))
        return self.file.read(int(row["size"]))

    def cells(self, row: Any) -> Row:
        """Return the cells of the raw row that were kept with a row's example."""
        if not row["cells"]:
            return {}
        self.file.seek(int(row["start"]) + int(row["size"]))
        return dict(orjson.loads(self.file.readline()))

    def question(self, row: Any) -> Question:
        return question_of(self.example(row))

    def questions(self, rows: SpoolRows) -> Callable[[int], Question]:
        """Return a function from an index in `rows` to the question of that row."""
        return lambda number: self.question(rows[number])


def spool_examples(examples: Iterable[NewExample], file: BinaryIO, progress: Progress | None = None) -> SpooledExamples:
    """Append examples to a file."""
    rows: list[SpoolRows] = []
    keys = array("Q")
    batch: list[tuple[int, ...]] = []
    start = file.seek(0, SEEK_END)
    for row, split, key, question, example, cells in examples:
        line, kept = as_line(example), as_line(cells) if cells else b""
        file.write(line + kept)
        batch.append((row, split, start, len(line), question, sha256_64(line), sha256_64(kept) if kept else 0))
        keys.append(key)
        start += len(line) + len(kept)
        if len(batch) == ROWS_AT_ONCE:
            rows.append(np.array(batch, SPOOL_DTYPE))
            batch.clear()
            if progress:
                progress(ROWS_AT_ONCE * len(rows), 0, f"{ROWS_AT_ONCE * len(rows):,} examples read")
    rows.append(np.array(batch, SPOOL_DTYPE))
    return SpooledExamples(file, np.concatenate(rows), np.frombuffer(keys, np.uint64))


def as_line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
