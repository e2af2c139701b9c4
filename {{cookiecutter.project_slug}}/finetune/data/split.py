"""Divide examples into splits: each example decides its split, and no split has a near duplicate of another's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.core.callbacks import Progress
from finetune.core.records import Example
from finetune.data.example_spool import SpooledExamples, SpoolRows
from finetune.data.examples import messages_of, text_of
from finetune.data.near_duplicates import SketchIndex, find_near_duplicates, sketch
from finetune.data.parallel import map_in_parallel
from finetune.data.text_normalization import comparison_key

SPLITS = ("train", "valid", "test")  # an example of two splits stays in the later one
BATCH = 2_000  # texts sketched at once
LONG_WORK = 50_000  # examples from which progress is shown


def split_key(example: Example) -> str:
    """Return the text that decides an example's split: its user messages without case, width and spaces."""
    asked = (text_of(m.get("content")) for _, m in messages_of(example) if m.get("role") == "user")
    return comparison_key("\n".join(asked)).decode()


def assign_splits(rows: SpoolRows, shares: Sequence[float]) -> None:
    """Set the split of each row: the hash of its key is a point from 0 to 1, and `shares` divide that interval.

    So an example stays in its split when others are added or removed, and two with the same key share a split.
    """
    points = rows["key"].astype(np.float64) / 2**64
    rows["split"] = np.minimum(np.searchsorted(np.cumsum(shares), points, "right"), len(shares) - 1)


def without_duplicates(rows: SpoolRows) -> SpoolRows:
    """Return the rows in the order of their hashes, each example once, in the latest split that has it.

    Neither the order nor the cells that are kept depend on the order of the raw rows.
    """
    rows = rows[np.lexsort((rows["cells"], -rows["split"].astype(int), rows["digest"]))]
    first: SpoolRows = rows[np.concatenate([[True], rows["digest"][1:] != rows["digest"][:-1]])]
    return first


@dataclass(frozen=True)
class Leak:
    """A row with the same question as a row of another split, or nearly the same."""

    row: Any
    other: Any
    similarity: float


def leaks(
    spooled: SpooledExamples, rows: SpoolRows, workers: int | None = None, progress: Progress | None = None
) -> Iterator[Leak]:
    """Yield each row that is near to a row of a later split, except to one that is a leak itself.

    Without these rows the splits are disjoint. The test split loses no row, the validation split loses those near to
    test rows; so no example moves when others are added or removed.
    """
    later: list[tuple[SpoolRows, SketchIndex]] = []
    done = 0
    for split in reversed(range(len(SPLITS))):
        own = rows[rows["split"] == split]
        batches = [own[start : start + BATCH] for start in range(0, len(own), BATCH)]
        texts = ([spooled.question(row) for row in batch] for batch in batches)
        sketched = map_in_parallel(sketch, texts, int(own["size"].sum()), workers)
        kept_rows, kept_sketches = [own[:0]], [sketch([])]
        for batch, sketches in zip(batches, sketched, strict=True):
            leaky: set[int] = set()
            done += len(batch)
            if progress and len(rows) > LONG_WORK:
                progress(done, len(rows), "examples compared")
            for others, index in later:
                near = find_near_duplicates(index, sketches, spooled.questions(batch), spooled.questions(others))
                for number in sorted(near.keys() - leaky):
                    yield Leak(batch[number], others[near[number][0]], near[number][1])
                leaky |= near.keys()
            if split > 0:  # no split is compared with the first
                kept = ~np.isin(np.arange(len(batch)), list(leaky))
                kept_rows.append(batch[kept])
                kept_sketches.append(sketches[kept])
        later.append((np.concatenate(kept_rows), SketchIndex(np.concatenate(kept_sketches))))
