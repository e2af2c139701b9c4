"""Divide the examples into splits that share no question, or check the splits that are given."""

from collections import Counter
from typing import Any

import numpy as np

from finetune.core.callbacks import Progress
from finetune.core.disk import write_json, write_lines
from finetune.core.errors import FinetuneError
from finetune.core.paths import COMMON_PIECES, LEFT_OUT
from finetune.core.sections.data import Data
from finetune.data.common_pieces import CommonPieces, find_common_pieces
from finetune.data.example_spool import SpooledExamples, SpoolRows
from finetune.data.left_out import (
    NONE_LEFT_OUT,
    LeftOut,
    left_out_copies,
    left_out_leaks,
    left_out_lines,
    refuse_many_near,
)
from finetune.data.split import SPLITS, Nearness, assign_splits, leaks, settle_keys, sort_by_digest, without_duplicates

LISTED = 10  # rows named in an error


def nearness(gathered: SpooledExamples, data: Data) -> Nearness:
    """Return how questions are compared, and write what `validate` needs to compare them alike."""
    rows = gathered.rows
    compared = data.near is not None
    common = find_common_pieces(rows["question"], gathered.questions(rows)) if compared else CommonPieces()
    write_json(COMMON_PIECES, common.record())
    return Nearness(data.near, common)


def split_rows(
    gathered: SpooledExamples, data: Data, near: Nearness, workers: int | None, progress: Progress | None
) -> tuple[SpoolRows, LeftOut]:
    """Assign splits by shares, and return the rows without duplicates and near duplicates, and the rows left out.

    Given splits are checked, and keep all rows. Raises FinetuneError if they share a question, or if a large share of
    the training rows would be left out.
    """
    rows = gathered.rows
    if not (data.split and data.split.shares):
        refuse_leaks(gathered, data, near, workers)
        write_lines(LEFT_OUT, left_out_lines(NONE_LEFT_OUT))
        return rows, NONE_LEFT_OUT
    if not data.group:
        settle_keys(gathered)
    assign_splits(gathered, data.split.shares, data.split.seed)
    sort_by_digest(gathered)
    distinct = without_duplicates(rows)
    leaky = left_out_leaks(leaks(gathered, distinct, near, workers, progress))
    left_out = np.concatenate([left_out_copies(rows, distinct), leaky])
    write_lines(LEFT_OUT, left_out_lines(left_out))
    refuse_many_near(leaky, int((distinct["split"] == SPLITS.index("train")).sum()), near.threshold)
    kept: SpoolRows = distinct[~np.isin(distinct["start"], leaky["start"])]
    return kept, left_out


def refuse_leaks(gathered: SpooledExamples, data: Data, near: Nearness, workers: int | None) -> None:
    """Raise FinetuneError naming the rows of given splits that ask the same, or nearly the same."""
    files = dict(enumerate((data.files.train, data.files.valid, data.files.test))) if data.files else {}

    def place(row: Any) -> str:
        return f"{files.get(int(row['split']), data.file)}, row {row['row']} ({SPLITS[row['split']]})"

    found = list(leaks(gathered, gathered.rows, near, workers))
    if found:
        named = [f"{place(leak.row)} is like {place(leak.other)}: {leak.similarity:.2f}" for leak in found[:LISTED]]
        more = [f"... and {len(found) - LISTED} more"] if len(found) > LISTED else []
        counts = Counter((SPLITS[leak.row["split"]], SPLITS[leak.other["split"]]) for leak in found)
        # data.near decides only on rows that are not the same.
        near_words = " If they ask different questions, set data.near in params.yaml to a larger number, or to off."
        near_words = "" if all(leak.is_same for leak in found) else near_words
        pairs = ", ".join(f"{n} of {one} in {other}" for (one, other), n in sorted(counts.items()))
        raise FinetuneError(
            "\n".join([f"The given splits share questions: {pairs}.", *named, *more]),
            "Keep similar rows in one split, or let data.split divide one file." + near_words,
        )
