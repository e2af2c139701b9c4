"""Which split an example belongs to, decided by the example alone; and none near to another's."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import SEEK_END
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.data.examples import Example, messages_of, question_of, text_of
from finetune.data.near_duplicates import Index, bare, sketch, twins
from finetune.data.parallel import side_by_side
from finetune.data.readers import Row

SPLITS = ("train", "valid", "test")  # what is in two of them stays in the later one
BATCH = 2_000  # texts sketched at once
AT_ONCE = 50_000  # rows gathered before they are put into an array

# Of each example: the raw row that it came from, its split, where it lies, and hashes: of its split's key, of itself,
# and of those cells of its row that are kept behind it (0: none are).
ROW = np.dtype("i4, u1, i8, i4, u8, u8, u8")
ROW.names = ("row", "split", "start", "size", "key", "digest", "cells")
Rows = NDArray[Any]


@dataclass(frozen=True)
class Gathered:
    """Examples that lie in a file, a ROW for each: so that more of them are split than memory holds."""

    spool: BinaryIO
    rows: Rows
    shape: Callable[[Example], Example] | None = None  # what becomes of an example when it is written

    def example(self, row: Any) -> Example:
        example = dict(orjson.loads(self.line(row)))
        return self.shape(example) if self.shape else example

    def written(self, row: Any) -> bytes:
        """The line that a row becomes."""
        return as_line(self.example(row)) if self.shape else self.line(row)

    def line(self, row: Any) -> bytes:
        self.spool.seek(int(row["start"]))
        return self.spool.read(int(row["size"]))

    def cells(self, row: Any) -> Row:
        """The cells of its raw row that were kept with an example."""
        if not row["cells"]:
            return {}
        self.spool.seek(int(row["start"]) + int(row["size"]))
        return dict(orjson.loads(self.spool.readline()))

    def question(self, row: Any) -> str:
        return question_of(self.example(row))


def key_of(example: Example) -> str:
    """What identifies an example: the text that it asks with, whatever its case, width and spacing."""
    asked = (text_of(m.get("content")) for _, m in messages_of(example) if m.get("role") == "user")
    return bare("\n".join(asked)).decode()


def gather(
    examples: Iterable[tuple[int, int, str, Example, Row]], spool: BinaryIO, progress: Progress | None = None
) -> Gathered:
    """Write examples behind what the spool holds; with each come its raw row's number, its split, the key that decides
    it, and the cells to keep with it."""
    rows: list[Rows] = []
    batch: list[tuple[int, int, int, int, int, int, int]] = []
    start = spool.seek(0, SEEK_END)
    for row, split, key, example, cells in examples:
        line, kept = as_line(example), as_line(cells) if cells else b""
        spool.write(line + kept)
        batch.append((row, split, start, len(line), hashed(key.encode()), hashed(line), hashed(kept) if kept else 0))
        start += len(line) + len(kept)
        if len(batch) == AT_ONCE:
            rows.append(np.array(batch, ROW))
            batch.clear()
            if progress:
                progress(AT_ONCE * len(rows), 0, f"{AT_ONCE * len(rows):,} examples read")
    return Gathered(spool, np.concatenate([*rows, np.array(batch, ROW)]))


def as_line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def hashed(content: bytes) -> int:
    """The first 64 bits of the SHA-256."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def assign(rows: Rows, shares: Sequence[float]) -> None:
    """Give each row its split: its key's hash is a point between 0 and 1, and the shares cut that line.

    So an example stays where it is when others come or go, and two with the same key never part.
    """
    points = rows["key"].astype(np.float64) / 2**64
    rows["split"] = np.minimum(np.searchsorted(np.cumsum(shares), points, "right"), len(shares) - 1)


def without_duplicates(rows: Rows) -> Rows:
    """The rows in the order of their hashes, each example once, in the latest split that has it.

    The order is the same whatever that of the raw rows was, and so are the cells that are kept.
    """
    rows = rows[np.lexsort((rows["cells"], -rows["split"].astype(int), rows["digest"]))]
    first: Rows = rows[np.concatenate([[True], rows["digest"][1:] != rows["digest"][:-1]])]
    return first


@dataclass(frozen=True)
class Leak:
    """A row that asks the same as one of another split, or nearly so."""

    row: Any
    other: Any
    similarity: float


def leaks(
    gathered: Gathered, rows: Rows, workers: int | None = None, progress: Progress | None = None
) -> Iterator[Leak]:
    """Each row near to one of a later split that is no leak itself: what is left when these are taken out is disjoint.

    The test split stays whole, then the validation split; so no example moves, whatever comes or goes.
    """
    later: list[tuple[Rows, Index]] = []
    done = 0
    for split in reversed(range(len(SPLITS))):
        mine = rows[rows["split"] == split]
        batches = [mine[start : start + BATCH] for start in range(0, len(mine), BATCH)]
        texts = ([gathered.question(row) for row in batch] for batch in batches)
        free, sketches = [mine[:0]], [sketch([])]
        for batch, new in zip(batches, side_by_side(sketch, texts, int(mine["size"].sum()), workers), strict=True):
            leaky: set[int] = set()
            done += len(batch)
            if progress and len(rows) > AT_ONCE:
                progress(done, len(rows), "examples compared")
            for theirs, index in later:
                near = twins(index, new, partial(question_at, gathered, batch), partial(question_at, gathered, theirs))
                for number in sorted(near.keys() - leaky):
                    yield Leak(batch[number], theirs[near[number][0]], near[number][1])
                leaky |= near.keys()
            if split > 0:  # nothing is compared with the first
                kept = ~np.isin(np.arange(len(batch)), list(leaky))
                free.append(batch[kept])
                sketches.append(new[kept])
        later.append((np.concatenate(free), Index(np.concatenate(sketches))))


def question_at(gathered: Gathered, rows: Rows, number: int) -> str:
    return gathered.question(rows[number])
