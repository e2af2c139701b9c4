"""The examples that are in no split: why each was left out, and because of which other row. And the account of all."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Account
from finetune.core.sections.data import Data
from finetune.data.example_spool import SpoolRows
from finetune.data.split import SPLITS, Leak

REASONS = ("duplicate", "same_question", "near_duplicate")  # the last two: of a row of a later split
# For each example that is left out: its place in the spool, its raw row and split, the reason as an index of REASONS,
# the raw row and split of the other example, and their similarity.
LEFT_OUT_DTYPE = np.dtype("i8, i4, u1, u1, i4, u1, f4")
LEFT_OUT_DTYPE.names = ("start", "row", "split", "reason", "other_row", "other_split", "similarity")
LeftOut = NDArray[Any]  # of LEFT_OUT_DTYPE
NONE_LEFT_OUT: LeftOut = np.empty(0, LEFT_OUT_DTYPE)

COLUMNS = ("row", "split", "reason", "other_row", "other_split", "similarity")  # of reports/left_out.csv
MOST_OF_TRAIN = 0.1  # share of the training rows that may be left out as near duplicates
FEW = 10  # near duplicates that are left out however small the data are
LISTED = 10  # rows named in an error


def left_out_copies(rows: SpoolRows, distinct: SpoolRows) -> LeftOut:
    """Return the rows that are copies of one of the distinct rows, which are in the order of their digests."""
    copies = rows[~np.isin(rows["start"], distinct["start"])]
    others = distinct[np.minimum(np.searchsorted(distinct["digest"], copies["digest"]), len(distinct) - 1)]
    is_copy = others["digest"] == copies["digest"]  # always, unless this program has a bug
    copies, others = copies[is_copy], others[is_copy]
    found = np.zeros(len(copies), LEFT_OUT_DTYPE)
    for name in ("start", "row", "split"):
        found[name] = copies[name]
    found["other_row"], found["other_split"], found["similarity"] = others["row"], others["split"], 1
    return found


def left_out_leaks(leaks: Iterable[Leak]) -> LeftOut:
    """Return the rows that have the question of a row of a later split, or nearly so."""
    cells = (
        (
            *(leak.row[name] for name in ("start", "row", "split")),
            REASONS.index("same_question" if leak.is_same else "near_duplicate"),
            *(leak.other[name] for name in ("row", "split")),
            leak.similarity,
        )
        for leak in leaks
    )
    return np.fromiter(cells, LEFT_OUT_DTYPE)


def left_out_lines(left_out: LeftOut) -> Iterator[bytes]:
    """Yield the lines of reports/left_out.csv, in the order of the raw rows."""
    yield (",".join(COLUMNS) + "\n").encode()
    for one in left_out[np.lexsort([left_out[name] for name in ("start", "reason", "row")])]:
        splits = SPLITS[one["split"]], SPLITS[one["other_split"]]
        line = f"{one['row']},{splits[0]},{REASONS[one['reason']]},{one['other_row']},{splits[1]}"
        yield f"{line},{one['similarity']:.2f}\n".encode()


def refuse_many_near(left_out: LeftOut, train: int, near: float | None) -> None:
    """Raise FinetuneError if more than a tenth of `train` training rows would be left out as near duplicates."""
    is_near = left_out["reason"] == REASONS.index("near_duplicate")
    found = left_out[is_near & (left_out["split"] == SPLITS.index("train"))]
    if len(found) < FEW or len(found) <= MOST_OF_TRAIN * train:
        return
    first = found[np.lexsort((found["row"], -found["similarity"]))][:LISTED]
    named = [f"row {one['row']} is like row {one['other_row']}: {one['similarity']:.2f}" for one in first]
    more = [f"... and {len(found) - LISTED:,} more in reports/left_out.csv"] if len(found) > LISTED else []
    share = f"{len(found):,} of {train:,} training rows ({len(found) / train:.0%})"
    what = f"{share} are near duplicates of validation or test rows, and would be left out:"
    raise FinetuneError(
        "\n".join([what, *named, *more]),
        "Compare these rows. If they ask different questions, set data.near in params.yaml to a larger number than"
        f" {near}, or to off. If they ask the same, keep one of them, or name a column that they share in data.group.",
    )


def warning_of_same_questions(left_out: LeftOut, train: int, data: Data) -> str:
    """Return a warning if a large share of the training rows was left out, for they ask what later splits ask; else "".

    `train` is the number of training rows that are left. This happens only to groups and to single turns: without
    them, rows with the same question are in one split.
    """
    is_same = left_out["reason"] == REASONS.index("same_question")
    lost = np.count_nonzero(is_same & (left_out["split"] == SPLITS.index("train")))
    if lost < FEW or lost <= MOST_OF_TRAIN * (train + lost):
        return ""
    cause, remedy = "conversations begin alike", "set data.turns in params.yaml to all"
    if data.group:
        cause, remedy = "groups ask the same", "remove data.group from params.yaml"
    return (
        f"{lost:,} of {train + lost:,} training rows ({lost / (train + lost):.0%}) are left out, for they have the"
        f" question of a validation or test row: {cause}. To keep them, {remedy}."
    )


def account_of(
    read: int,
    no_examples: Mapping[str, int],
    rows: SpoolRows,
    kept: SpoolRows,
    left_out: LeftOut,
    written: dict[str, int],
    added: int,
) -> Account:
    """Return where each row has gone: `rows` are the examples of `read` rows, `written` the lines of each split.

    `no_examples` are further rows, by the reason why they are left out.

    Raises RuntimeError unless each example is either in a split or left out, once. That would be a bug of this program.
    """
    places = np.sort(np.concatenate([kept["start"], left_out["start"]]))
    if sum(written.values()) != len(kept) + added or not np.array_equal(places, np.sort(rows["start"])):
        raise RuntimeError(
            f"prepare lost rows: {len(rows)} examples were read, {len(left_out)} left out and {written} written,"
            f" {added} of them added. This is a bug: please report it."
        )
    with_example = sum(np.count_nonzero(np.bincount(rows["row"][rows["split"] == n])) for n in range(len(SPLITS)))
    reasons = np.bincount(left_out["reason"], minlength=len(REASONS)).tolist()
    return {
        "rows": read + sum(no_examples.values()),
        "blank": no_examples.get("blank", 0),
        "not_accepted": no_examples.get("not_accepted", 0),
        "without_answer": read - int(with_example),
        "examples": len(rows),
        "added": added,
        "train": written["train"],
        "valid": written["valid"],
        "test": written["test"],
        "duplicate": reasons[0],
        "same_question": reasons[1],
        "near_duplicate": reasons[2],
    }
