"""Choose a share of the training rows: whole groups, and a larger share has all rows of a smaller one."""

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from finetune.core.disk import count_lines, read_jsonl, write_lines
from finetune.core.errors import FinetuneError
from finetune.core.paths import PREPARED, REPLAY, TRAIN_GROUPS
from finetune.core.records.prepared import TestRow


def chosen_rows(groups: Sequence[int], share: float, seed: int) -> Any:
    """Return whether each row is in the subset whose size is closest to a share of all rows.

    The subset is the beginning of a random order of the groups, which the seed decides.
    """
    import numpy as np

    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    rows = sizes[order].cumsum()
    count = 1 + int(np.abs(rows - share * len(place)).argmin())
    return np.isin(place, order[:count])


def write_subset(target: Path, share: float, seed: int) -> int:
    """Write a share of the training rows to a file, in their order, and return the number of rows."""
    source = PREPARED / "train.jsonl"
    groups = [row["group"] for row in read_jsonl(TRAIN_GROUPS, "prepare", TestRow)]
    chosen = chosen_rows(groups, share, seed).tolist()
    count = count_lines(source)
    if count != len(chosen):
        raise FinetuneError(
            f"{TRAIN_GROUPS} has {len(chosen):,} rows, and {source} {count:,}.", "Prepare again with: dvc repro prepare"
        )
    with open(source, "rb") as lines:
        write_lines(target, compress(lines, chosen))
    return sum(chosen)


def write_replay_subset(target: Path, share: float, seed: int) -> Path | None:
    """Write the same share of the rows of train.replay to a file, and return it; None if there are none."""
    count = count_lines(REPLAY) if REPLAY.is_file() else 0
    if not count:
        return None
    with open(REPLAY, "rb") as lines:
        write_lines(target, compress(lines, chosen_rows(range(count), share, seed).tolist()))
    return target
