"""Pieces of text that stand in a large share of all questions, such as an instruction before every message.

They do not count when two questions are compared: only what varies tells whether questions are alike. Where little
else varies, a question consists of recurring values, and then they count as such.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune.data.hashes import mix_bits
from finetune.data.question import Question
from finetune.data.text_normalization import comparison_key

TRIGRAM = 3  # letters
PIECE = 12  # letters, without spaces
# The share of the questions from which a piece is common. Measured on the 880 messages of the starter and 88 planted
# copies (a letter, two words swapped, or a word replaced): 70 copies are found among the plain messages, and 72 or 73
# with an instruction of 517 letters before the messages, around them, or with one of five instructions; no other
# message is. Without this rule the instruction makes three quarters of the messages near. With a share of 0.2 only 25
# copies are found after one of five instructions; with 0.05, sentences of few words lose what tells them apart.
SHARE = 0.15
# The trigrams that vary for each run of common pieces, below which the runs of a text count too. Measured on rows of
# recurring values (cars, mushrooms, customers, generated SQL): without it, up to two thirds of the rows have a
# similarity of 1 to another row; from 20 on none has, and the copies above are found as before.
LITTLE = 20
WEIGHT = 2  # trigrams as which such a run counts
LONG = 40  # letters of a run that is an instruction and not a value, if it is common as a whole
FEWEST = 10  # questions that must have a piece, so that a few copies of one question are no instruction
SAMPLE = 1_000  # questions in which pieces are counted
COUNTERS = 2**20

Hashes = NDArray[np.uint64]
NOTHING: Hashes = np.empty(0, np.uint64)


class CommonPieces(NamedTuple):
    """The hashes of the common pieces of questions and of their contexts, and of their common long runs of pieces."""

    asked: Hashes = NOTHING
    context: Hashes = NOTHING

    def record(self) -> dict[str, list[int]]:
        return {"asked": self.asked.tolist(), "context": self.context.tolist()}


def common_pieces_from(record: dict[str, list[int]]) -> CommonPieces:
    return CommonPieces(np.array(record["asked"], np.uint64), np.array(record["context"], np.uint64))


def find_common_pieces(hashes: NDArray[Any], question_at: Callable[[int], Question]) -> CommonPieces:
    """Return the pieces that stand in a large share of some questions, each different question counted once.

    `hashes` are the hashes of all questions. A sample of them is read, chosen by their hashes, so that the result does
    not depend on the order of the questions or on copies, and the time hardly on their number.
    """
    known, first = np.unique(hashes, return_index=True)
    sample = first[np.argsort(mix_bits(known), kind="stable")[:SAMPLE]].tolist()
    fewest = max(FEWEST, SHARE * len(sample))

    def asked() -> Iterator[str]:
        return (question_at(number).asked for number in sample)

    def contexts() -> Iterator[str]:
        return (question_at(number).context for number in sample)

    return CommonPieces(*(with_runs(texts, pieces_in(texts, fewest), fewest) for texts in (asked, contexts)))


def pieces_in(texts: Callable[[], Iterator[str]], fewest: float) -> Hashes:
    """Return the hashes of the pieces that stand in at least `fewest` texts.

    The texts are read twice: first with few counters, which several pieces share, then exactly. So memory does not
    depend on their length.
    """
    counters = np.zeros(COUNTERS, np.int32)
    for text in texts():
        counters[np.unique(pieces_of(text) % COUNTERS)] += 1
    if counters.max() < fewest:
        return NOTHING
    found = [np.unique(pieces[counters[pieces % COUNTERS] >= fewest]) for pieces in map(pieces_of, texts())]
    pieces, times = np.unique(np.concatenate(found), return_counts=True)
    return pieces[times >= fewest]


def with_runs(texts: Callable[[], Iterator[str]], pieces: Hashes, fewest: float) -> Hashes:
    """Return the hashes of common pieces, and of the long runs of them that stand in at least `fewest` texts."""
    if not len(pieces):
        return NOTHING
    found = []
    for text in texts():
        letters = code_points([comparison_key(text).decode()])
        if len(letters) >= PIECE:
            covered = covered_letters(trigram_hashes(letters), np.array([len(letters)]), pieces)
            runs = runs_of(letters, covered, np.array([0]))
            found.append(np.unique(runs.hashes[runs.sizes >= LONG]))
    hashes, times = np.unique(np.concatenate(found), return_counts=True)
    return np.concatenate([pieces, hashes[times >= fewest]])


def pieces_of(text: str) -> Hashes:
    """Return the hashes of all pieces of a text."""
    key = comparison_key(text).decode()
    return piece_hashes(trigram_hashes(code_points([key]))) if len(key) >= PIECE else NOTHING


def code_points(texts: Sequence[str]) -> Hashes:
    letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    return letters.astype(np.uint64)


def trigram_hashes(letters: Hashes) -> Hashes:
    """Return the hash of the three letters from each letter on. A code point has 21 bits."""
    return mix_bits(letters[:-2] | letters[1:-1] << np.uint64(21) | letters[2:] << np.uint64(42))


def piece_hashes(trigrams: Hashes) -> Hashes:
    """Return the hash of the piece from each letter on, from the hashes of the trigrams in it."""
    six = trigrams[:-3] * np.uint64(0x9E3779B97F4A7C15) + trigrams[3:]
    pieces: Hashes = six[:-6] * np.uint64(0xD1B54A32D192ED03) + six[6:]
    return pieces


def varying_trigrams(texts: Sequence[str], common: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes of the trigrams of each text without its common pieces, and their number by text.

    Each text has at least three letters. Two marks stand for each run of common pieces, so that the trigrams beside it
    do not depend on it, and a single letter between two runs still counts. Where little else varies, runs count too,
    each as a whole: rows that are made of values which recur, such as "doors: 2, safety: low", differ in their runs.
    Long runs that are common never count: they are instructions.
    """
    letters = code_points(texts)
    lengths = np.array([len(text) for text in texts], np.int64)
    trigrams = trigram_hashes(letters)
    covered = covered_letters(trigrams, lengths, common) if len(common) else np.zeros(0, bool)
    if not covered.any():
        return trigrams[is_inside(lengths)], lengths - (TRIGRAM - 1)
    starts = np.cumsum(lengths) - lengths
    runs = runs_of(letters, covered, starts)
    kept = ~covered | runs.first | np.concatenate([[False], runs.first[:-1]])
    lengths = np.add.reduceat(kept, starts, dtype=np.int64)
    trigrams = trigram_hashes(np.where(covered, np.uint64(0), letters)[kept])[is_inside(lengths)]
    counts = lengths - (TRIGRAM - 1)
    values = np.flatnonzero(~np.isin(runs.hashes, common))
    texts_of_values = np.searchsorted(starts, np.flatnonzero(runs.first)[values], "right") - 1
    times = np.bincount(texts_of_values, minlength=len(texts))
    times[counts >= LITTLE * times] = 0
    values, texts_of_values = (part[times[texts_of_values] > 0] for part in (values, texts_of_values))
    weighted = mix_bits(runs.hashes[values, None] + np.arange(WEIGHT, dtype=np.uint64)).ravel()
    places = np.repeat(np.cumsum(counts)[texts_of_values], WEIGHT)
    return np.insert(trigrams, places, weighted), counts + WEIGHT * times


def is_inside(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each trigram of some texts after another whether it is in one text."""
    ends = np.cumsum(lengths)
    inside = np.ones(int(ends[-1]) - (TRIGRAM - 1), bool)
    inside[ends[:-1] - 1] = inside[ends[:-1] - 2] = False
    return inside


class Runs(NamedTuple):
    """Runs of covered letters: whether each letter of the texts is the first of a run; and each run's hash and size."""

    first: NDArray[np.bool_]
    hashes: Hashes
    sizes: NDArray[np.int64]


def runs_of(letters: Hashes, covered: NDArray[np.bool_], starts: NDArray[np.int64]) -> Runs:
    """Return the runs of covered letters; `starts` are the places where texts begin."""
    before = np.concatenate([[False], covered[:-1]])
    before[starts] = False
    first = covered & ~before
    places = np.flatnonzero(covered)
    begins = np.flatnonzero(first[places])
    sizes = np.diff(np.append(begins, len(places)))
    offsets = np.arange(len(places)) - np.repeat(begins, sizes)
    weighted = letters[places] * mix_bits(offsets.astype(np.uint64) + np.uint64(1))
    hashes: Hashes = np.add.reduceat(weighted, begins) if len(begins) else NOTHING
    return Runs(first, hashes, sizes)


def covered_letters(trigrams: Hashes, lengths: NDArray[np.int64], common: Hashes) -> NDArray[np.bool_]:
    """Return for each letter of some texts whether it is in a common piece."""
    pieces = piece_hashes(trigrams)
    may_be = np.zeros(2**16, bool)  # most pieces are excluded by 16 bits of their hashes
    may_be[(common >> np.uint64(48)).astype(np.int64)] = True
    at = np.flatnonzero(may_be[(pieces >> np.uint64(48)).astype(np.int64)])
    at = at[np.isin(pieces[at], common)]
    ends = np.cumsum(lengths)
    at = at[at + PIECE <= ends[np.searchsorted(ends, at, "right")]]  # not those that reach into the next text
    steps = np.zeros(int(ends[-1]) + 1, np.int32)
    steps[at] += 1
    steps[at + PIECE] -= 1
    return np.cumsum(steps[:-1]) > 0
