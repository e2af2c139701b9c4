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
# recurring values (cars, mushrooms, customers, generated SQL): without it, up to two thirds of them are said to be the
# same as another row; from 15 to 20 on none is, and the copies above are found as before.
LITTLE = 20
FEWEST = 10  # questions that must have a piece, so that a few copies of one question are no instruction
SAMPLE = 1_000  # questions in which pieces are counted
COUNTERS = 2**20

Hashes = NDArray[np.uint64]
NOTHING: Hashes = np.empty(0, np.uint64)


class CommonPieces(NamedTuple):
    """The hashes of the common pieces of questions and of their contexts, in order."""

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

    return CommonPieces(pieces_in(asked, fewest), pieces_in(contexts, fewest))


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
    do not depend on it, and a single letter between two runs still counts. Where little else varies, each run counts
    once, as a whole: rows that are made of values which recur, such as "doors: 2, safety: low", differ in their runs.
    """
    letters = code_points(texts)
    lengths = np.array([len(text) for text in texts], np.int64)
    trigrams = trigram_hashes(letters)
    runs, texts_of_runs = NOTHING, np.empty(0, np.int64)
    if len(common):
        covered = covered_letters(trigrams, lengths, common)
        if covered.any():
            starts = np.cumsum(lengths) - lengths
            before = np.concatenate([[False], covered[:-1]])
            before[starts] = False
            first = covered & ~before
            runs = run_hashes(letters, covered, first)
            texts_of_runs = np.searchsorted(starts, np.flatnonzero(first), "right") - 1
            kept = ~covered | first | np.concatenate([[False], first[:-1]])
            lengths = np.add.reduceat(kept, starts, dtype=np.int64)
            trigrams = trigram_hashes(np.where(covered, np.uint64(0), letters)[kept])
    ends = np.cumsum(lengths)
    inside = np.ones(len(trigrams), bool)
    inside[ends[:-1] - 1] = inside[ends[:-1] - 2] = False  # trigrams that reach into the next text
    counts = lengths - (TRIGRAM - 1)
    runs_of_texts = np.bincount(texts_of_runs, minlength=len(texts))
    runs_of_texts[counts >= LITTLE * runs_of_texts] = 0
    count = runs_of_texts[texts_of_runs] > 0
    with_runs = np.insert(trigrams[inside], np.cumsum(counts)[texts_of_runs[count]], runs[count])
    return with_runs, counts + runs_of_texts


def run_hashes(letters: Hashes, covered: NDArray[np.bool_], first: NDArray[np.bool_]) -> Hashes:
    """Return the hash of each run of covered letters; `first` marks the first letter of each."""
    places = np.flatnonzero(covered)
    starts = np.flatnonzero(first[places])
    offsets = np.arange(len(places)) - np.repeat(starts, np.diff(np.append(starts, len(places))))
    weighted = letters[places] * mix_bits(offsets.astype(np.uint64) + np.uint64(1))
    return mix_bits(np.add.reduceat(weighted, starts))


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
