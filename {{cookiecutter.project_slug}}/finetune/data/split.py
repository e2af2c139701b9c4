"""Divide examples into splits: each example decides its split, and no split has a near duplicate of another's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.core.records import Example
from finetune.data.common_pieces import CommonPieces
from finetune.data.example_spool import Keys, SpooledExamples, SpoolRows
from finetune.data.examples import messages_of, text_of
from finetune.data.hashes import mix_bits, sha256_64
from finetune.data.identity import media_of, question_hash, question_of
from finetune.data.near_duplicates import NEAR, Sketches, SketchIndex, find_near_duplicates, sketch
from finetune.data.parallel import map_in_parallel
from finetune.data.text_normalization import comparison_key

SPLITS = ("train", "valid", "test")  # an example of two splits stays in the later one
MANY_CONTEXTS = 10
BATCH = 2_000  # questions sketched at once
LONG_WORK = 50_000  # examples from which progress is shown


def split_keys(example: Example) -> Keys:
    """Return the hashes of which one decides an example's split: of its user messages, and of its whole question.

    The user messages count without case, width and spaces, with their images, audio and files.
    """
    texts, media = [], list[str]()
    for _, message in messages_of(example):
        if message.get("role") == "user":
            content = message.get("content")
            texts.append(text_of(content))
            if isinstance(content, list):
                media += media_of(content)
    key = comparison_key("\n".join(texts)) + (b"\0" + " ".join(media).encode() if media else b"")
    question = question_hash(question_of(example))
    return Keys(sha256_64(key), question, question)


def deciding_keys(rows: SpoolRows) -> NDArray[np.uint64]:
    """Return for each row the hash that decides its split.

    It is that of the user messages, so a system prompt, the definitions of tools and the answers of a conversation may
    change without moving an example. But user messages that come with ten or more different contexts, such as one
    question on many documents, do not tell questions apart, so the whole question decides there: otherwise all these
    rows would be in one split. The price: when the tenth context of the same user messages is added, their rows move
    once. A rule that always counts the context would never move a row, but a reworded system prompt would move all.
    """
    keys: NDArray[np.uint64] = rows["key"]
    _, first = np.unique(rows["whole"], return_index=True)
    of_questions, contexts = np.unique(keys[first], return_counts=True)
    many = of_questions[contexts >= MANY_CONTEXTS]
    return np.where(np.isin(keys, many), rows["whole"], keys) if len(many) else keys


def split_of_keys(keys: NDArray[np.uint64], shares: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Return the split of each key: its hash is a point from 0 to 1, and `shares` divide that interval."""
    mixed = mix_bits(keys ^ mix_bits(np.array([seed], np.uint64))) if seed else keys
    points = mixed.astype(np.float64) / 2**64
    return np.minimum(np.searchsorted(np.cumsum(shares), points, "right"), len(shares) - 1)


def assign_splits(rows: SpoolRows, shares: Sequence[float], seed: int = 0) -> None:
    """Set the split of each row by the hash that decides it.

    So an example stays in its split when others are added or removed, and two with the same key share a split. Another
    seed gives other splits.
    """
    rows["split"] = split_of_keys(deciding_keys(rows), shares, seed)


def without_duplicates(rows: SpoolRows) -> SpoolRows:
    """Return the rows in the order of their hashes, each example once, in the latest split that has it.

    Neither the order nor the cells that are kept depend on the order of the raw rows.
    """
    rows = rows[np.lexsort((rows["cells"], -rows["split"].astype(int), rows["digest"]))]
    first: SpoolRows = rows[np.concatenate([[True], rows["digest"][1:] != rows["digest"][:-1]])]
    return first


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


@dataclass(frozen=True)
class KeptRows:
    """The rows of a split that are no leaks, and their index by the hash of the question and by sketch."""

    rows: SpoolRows
    index: SketchIndex | None

    def same_as(self, rows: SpoolRows) -> Iterator[tuple[int, int]]:
        """Yield the number of each row with the question of a kept row, and the number of that one."""
        hashes, first = np.unique(self.rows["question"], return_index=True)
        place = np.minimum(np.searchsorted(hashes, rows["question"]), max(0, len(hashes) - 1))
        if len(hashes):
            for number in np.flatnonzero(hashes[place] == rows["question"]).tolist():
                yield number, int(first[place[number]])


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
                kept_sketches.append(sketches[clean] if near.threshold else sketches)
        index = SketchIndex(np.concatenate(kept_sketches)) if near.threshold else None
        later.append(KeptRows(np.concatenate(kept_rows), index))


def sketches_of(
    spooled: SpooledExamples, batches: Sequence[SpoolRows], near: Nearness, workers: int | None
) -> Iterator[Sketches]:
    """Yield the sketches of each batch; without rows where only the same questions are sought."""
    if near.threshold is None:
        yield from (sketch([]) for _ in batches)
        return
    questions = ([spooled.question(row) for row in batch] for batch in batches)
    size = int(sum(batch["size"].sum() for batch in batches))
    yield from map_in_parallel(partial(sketch, common=near.common), questions, size, workers)


def leaks_of_batch(
    spooled: SpooledExamples, batch: SpoolRows, sketches: Sketches, kept: KeptRows, near: Nearness
) -> dict[int, tuple[Any, float]]:
    """Return for each leak of a batch into the kept rows of a split: its number → the other row and the similarity."""
    found = {number: (kept.rows[other], 1.0) for number, other in kept.same_as(batch)}
    if near.threshold is not None and kept.index is not None:
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
