"""Divide examples into splits: each example decides its split, and no split has a near duplicate of another's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.core.records.prepared import Example
from finetune.data.common_pieces import CommonPieces
from finetune.data.example_spool import SpooledExamples, SpoolRows
from finetune.data.examples import text_of
from finetune.data.hashes import mix_bits, sha256_64
from finetune.data.identity import media_of, messages_before_answer, question_hash, question_of
from finetune.data.near_duplicates import NEAR, Sketches, SketchIndex, find_near_duplicates, sketch
from finetune.data.parallel import map_in_parallel
from finetune.data.text_normalization import comparison_key

SPLITS = ("train", "valid", "test")  # an example of two splits stays in the later one
MANY_CONTEXTS = 10  # of the same user messages
BATCH = 2_000  # questions sketched at once
LONG_WORK = 50_000  # examples from which progress is shown


def split_keys(example: Example) -> tuple[int, int]:
    """Return the hashes of which one decides an example's split: of its user messages, and of its question.

    The user messages count without case, width and spaces, with their images, audio and files.
    """
    question = question_of(example)
    asked = [message.get("content") for message in messages_before_answer(example) if message.get("role") == "user"]
    texts = "\n".join(map(text_of, asked))
    key = texts_key = comparison_key(texts)
    if question.media:
        media = [one for content in asked if isinstance(content, list) for one in media_of(content)]
        key += f"\0{' '.join(media)}".encode() if media else b""
    return sha256_64(key), question_hash(question, texts_key if texts == question.asked else None)


def settle_keys(spooled: SpooledExamples) -> None:
    """Replace the key of each example by the hash of its whole question where the user messages tell too little.

    The user messages alone decide the split in general. So a system prompt, the definitions of tools and the answers of
    a conversation may change without moving an example. But user messages that come with ten or more different
    contexts, such as one question on many documents, do not tell questions apart, and would all be in one split. The
    price: when the tenth context of the same user messages is added, their rows move once. A rule that always counts
    the context would never move them, but a reworded system prompt would move all rows.
    """
    rows, keys = spooled.rows, spooled.keys
    ordered = np.sort(keys)
    if not (ordered[MANY_CONTEXTS - 1 :] == ordered[: 1 - MANY_CONTEXTS]).any():
        return  # the common case: no key is that of ten examples
    ends = np.append((np.diff(rows["row"]) != 0) | (np.diff(rows["split"]) != 0), True)
    place = np.cumsum(ends) - ends  # of each example's raw row
    whole = rows["question"][ends][place]  # the last example of a conversation has all its questions
    _, first = np.unique(whole, return_index=True)
    of_messages, contexts = np.unique(keys[first], return_counts=True)
    many = of_messages[contexts >= MANY_CONTEXTS]
    keys[:] = np.where(np.isin(keys, many), whole, keys)


def split_of_keys(keys: NDArray[np.uint64], shares: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Return the split of each key: its hash is a point from 0 to 1, and `shares` divide that interval."""
    mixed = mix_bits(keys ^ mix_bits(np.array([seed], np.uint64))) if seed else keys
    points = mixed.astype(np.float64) / 2**64
    return np.minimum(np.searchsorted(np.cumsum(shares), points, "right"), len(shares) - 1)


def assign_splits(spooled: SpooledExamples, shares: Sequence[float], seed: int = 0) -> None:
    """Set the split of each row by its key.

    So an example stays in its split when others are added or removed, and two with the same key share a split. Another
    seed gives other splits.
    """
    spooled.rows["split"] = split_of_keys(spooled.keys, shares, seed)


def sort_by_digest(spooled: SpooledExamples) -> None:
    """Sort the rows by their hashes, and copies by their splits, the latest first.

    Then neither the order nor the cells that are kept depend on the order of the raw rows.
    """
    rows = spooled.rows
    order = np.lexsort((rows["cells"], -rows["split"].astype(np.int8), rows["digest"]))
    rows[:], spooled.keys[:] = rows[order], spooled.keys[order]


def without_duplicates(rows: SpoolRows) -> SpoolRows:
    """Return each example of sorted rows once, in the latest split that has it."""
    first = np.concatenate([[True], rows["digest"][1:] != rows["digest"][:-1]])
    return rows if first.all() else rows[first]  # a copy would double the memory of large data


class Nearness(NamedTuple):
    """From which similarity questions are near (None: only if they are the same), and which pieces do not count."""

    threshold: float | None = NEAR
    common: CommonPieces = CommonPieces()


@dataclass(frozen=True)
class Leak:
    """A row with the same question as a row of another split, or nearly the same."""

    row: Any
    other: Any
    similarity: float

    @property
    def is_same(self) -> bool:
        return bool(self.row["question"] == self.other["question"])


class KeptRows:
    """The rows of a split that are no leaks, with their indexes by question and by sketch."""

    def __init__(self, rows: SpoolRows, sketches: Sketches | None) -> None:
        self.rows = rows
        self.questions, self.first = np.unique(rows["question"], return_index=True)
        self.index = None if sketches is None else SketchIndex(sketches)

    def same_as(self, rows: SpoolRows) -> dict[int, int]:
        """Return for each row with the question of a kept row: its number → the number of that one."""
        if not len(self.rows):
            return {}
        place = np.minimum(np.searchsorted(self.questions, rows["question"]), len(self.questions) - 1)
        found = np.flatnonzero(self.questions[place] == rows["question"])
        return dict(zip(found.tolist(), self.first[place[found]].tolist(), strict=True))


def leaks(
    spooled: SpooledExamples,
    rows: SpoolRows,
    near: Nearness,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Leak]:
    """Yield each row with the same question as a row of a later split or nearly the same, except as a leak itself.

    Without these rows the splits are disjoint. The test split loses no row, the validation split loses those near to
    test rows; so no example moves when others are added or removed.
    """
    later: list[KeptRows] = []
    done = 0
    for split in reversed(range(len(SPLITS))):
        own = rows[rows["split"] == split]
        batches = [own[start : start + BATCH] for start in range(0, len(own), BATCH)]
        kept_rows, kept_sketches = [own[:0]], [sketch([])]
        for batch, sketches in zip(batches, sketches_of(spooled, batches, near, workers), strict=True):
            leaky: set[int] = set()
            done += len(batch)
            if progress and len(rows) > LONG_WORK:
                progress(done, len(rows), "examples compared")
            for kept in later:
                found = leaks_of_batch(spooled, batch, sketches, kept, near)
                for number in sorted(found.keys() - leaky):
                    yield Leak(batch[number], *found[number])
                leaky |= found.keys()
            if split > 0:  # no split is compared with the first
                clean = ~np.isin(np.arange(len(batch)), list(leaky))
                kept_rows.append(batch[clean])
                if sketches is not None:
                    kept_sketches.append(sketches[clean])
        if split > 0:
            later.append(KeptRows(np.concatenate(kept_rows), np.concatenate(kept_sketches) if near.threshold else None))


def sketches_of(
    spooled: SpooledExamples, batches: Sequence[SpoolRows], near: Nearness, workers: int | None
) -> Iterator[Sketches | None]:
    """Yield the sketches of each batch; None where only the same questions are sought."""
    if near.threshold is None:
        yield from (None for _ in batches)
        return
    questions = ([spooled.question(row) for row in batch] for batch in batches)
    size = int(sum(batch["size"].sum() for batch in batches))
    yield from map_in_parallel(partial(sketch, common=near.common), questions, size, workers)


def leaks_of_batch(
    spooled: SpooledExamples, batch: SpoolRows, sketches: Sketches | None, kept: KeptRows, near: Nearness
) -> dict[int, tuple[Any, float]]:
    """Return for each leak of a batch into the kept rows of a split: its number → the other row and the similarity."""
    found = {number: (kept.rows[other], 1.0) for number, other in kept.same_as(batch).items()}
    if near.threshold is not None and sketches is not None and kept.index is not None:
        rest = np.flatnonzero(~np.isin(np.arange(len(batch)), list(found)))
        pairs = find_near_duplicates(
            kept.index,
            sketches[rest],
            spooled.questions(batch[rest]),
            spooled.questions(kept.rows),
            near.threshold,
            near.common,
        )
        for number, (other, similarity) in pairs.items():
            found[int(rest[number])] = (kept.rows[other], similarity)
    return found
