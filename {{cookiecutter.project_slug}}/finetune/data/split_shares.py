"""The shares that the splits really have, and the seed whose splits come closest to the shares that are asked for.

An example decides its split alone, so that it never moves when data grow. The price: the splits of small data, or of
few large groups, may differ much from the shares. Another seed gives other splits.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from finetune.data.example_spool import SpooledExamples
from finetune.data.split import SPLITS, split_of_keys

SEEDS = 1_000  # that are tried
MOST_POINTS = 50_000_000  # hashes that are computed for it
FEW = {"valid": 20, "test": 50}  # rows, below which a warning is given
OFF = 0.03  # difference of a share, from which a warning is given
WORTH = 0.005  # how much closer the shares of another seed must be
NAMES = {"train": "training", "valid": "validation", "test": "test"}


class SeedChoice(NamedTuple):
    """A seed, and how many rows it puts into each split."""

    seed: int
    rows: list[int]


def best_seed(spooled: SpooledExamples, shares: Sequence[float]) -> SeedChoice:
    """Return the seed, of the first 1,000, whose splits of some examples come closest to the shares.

    The keys must be settled, if they are not those of groups. An example that occurs twice counts once. Fewer seeds are
    tried where very many keys decide: then every seed comes close.
    """
    _, first = np.unique(spooled.rows["digest"], return_index=True)
    keys, sizes = np.unique(spooled.keys[first], return_counts=True)
    wanted = np.array(shares) * len(first)
    best, least = SeedChoice(0, []), np.inf
    for seed in range(min(SEEDS, 1 + MOST_POINTS // len(keys)) if len(keys) else 0):
        counts = np.bincount(split_of_keys(keys, shares, seed), sizes, len(shares))
        farthest = float(np.abs(counts - wanted).max())
        if farthest < least:
            best, least = SeedChoice(seed, counts.astype(int).tolist()), farthest
    return best


def rows_by_split(spooled: SpooledExamples, shares: Sequence[float], seed: int) -> list[int]:
    """Return how many rows a seed puts into each split; an example that occurs twice counts once."""
    _, first = np.unique(spooled.rows["digest"], return_index=True)
    found: list[int] = np.bincount(split_of_keys(spooled.keys[first], shares, seed), minlength=len(shares)).tolist()
    return found


def share_of(counts: Sequence[int]) -> list[float]:
    """Return the share of each count in all."""
    return [count / max(1, sum(counts)) for count in counts]


def farthest_share(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the largest difference of a realised share to the one that is asked for."""
    return max(abs(one - other) for one, other in zip(share_of(counts), shares, strict=True))


def warnings_of_shares(
    spooled: SpooledExamples, counts: Sequence[int], shares: Sequence[float], seed: int = 0
) -> Iterator[str]:
    """Yield warnings of splits with few rows, or with other shares than asked for, and the seed that comes closest.

    `counts` are the rows of the splits with `seed`. `shares` are empty for given splits. Seeds are compared by the rows
    before some are left out, for only the splits of one seed were searched for similar rows.
    """
    if few := few_rows(counts, shares):
        more = ", or raise their shares" if shares else ""
        yield f"only {' and '.join(few)}: their scores are uncertain. Add data{more}."
    off = farthest_share(counts, shares) if shares else 0.0
    if off > OFF:
        real, asked_for = (" / ".join(f"{share:.1%}" for share in part) for part in (share_of(counts), shares))
        yield f"the splits have {real} of the rows, data.split asks for {asked_for}. Equal questions stay together."
    if shares and (choice := better_seed(spooled, counts, shares, seed)):
        best = " / ".join(f"{count:,}" for count in choice.rows)
        before = ", before similar rows are left out" if sum(choice.rows) > sum(counts) else ""
        yield (
            f"with `seed: {choice.seed}` under data.split in params.yaml, the splits have {best} rows{before}."
            " It moves rows between the splits, so set it before you train."
        )


def better_seed(
    spooled: SpooledExamples, counts: Sequence[int], shares: Sequence[float], seed: int
) -> SeedChoice | None:
    """Return the seed whose splits come closest, where the counts of `seed` are too small or far from the shares.

    None if the counts are good, or no other seed is much better.
    """
    if not few_rows(counts, shares) and farthest_share(counts, shares) <= OFF:
        return None
    choice, now = best_seed(spooled, shares), farthest_share(rows_by_split(spooled, shares, seed), shares)
    is_useful = bool(choice.rows) and all(count for count, share in zip(choice.rows, shares, strict=True) if share)
    is_better = is_useful and choice.seed != seed and farthest_share(choice.rows, shares) < now - WORTH
    return choice if is_better else None


def few_rows(counts: Sequence[int], shares: Sequence[float]) -> list[str]:
    """Return the splits that have too few rows, in words. `shares` are empty for given splits."""
    return [
        f"{count} {NAMES[name]} {'row' if count == 1 else 'rows'} (fewer than {FEW[name]})"
        for name, count, asked in zip(SPLITS, counts, shares or counts, strict=True)
        if asked and count < FEW.get(name, 0)
    ]
