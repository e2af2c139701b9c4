"""Near duplicates: questions that differ in a typo, a word or a number, found without comparing all pairs.

Questions are compared by what varies: text that stands in a large share of all questions does not count.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune.data.common_pieces import NOTHING, TRIGRAM, CommonPieces, Hashes, varying_trigrams
from finetune.data.hashes import mix_bits, xxh3_64
from finetune.data.question import Question
from finetune.data.text_normalization import comparison_key

# Two questions are near duplicates from this Jaccard similarity of their sets of trigrams (three letters in a row). One
# word in ten changed leaves about 0.8.
NEAR = 0.8
# Two texts at 0.8 share one of 32 bands of 8 hashes with a probability of 1 - (1 - 0.8⁸)³² = 0.997, at 0.85 of 0.9999;
# two at 0.5 of 0.12, at 0.25 of 0.0005. So even among a million texts with common phrases few pairs are compared.
HASHES, BANDS = 256, 32
# One byte of each of the first 64 hashes: the share of equal bytes estimates the similarity of two texts with a
# standard deviation of 0.05.
SIGNS = 64
UNCERTAIN = 4 * 0.05
# Limits where very many texts are alike: texts looked at in one band, and texts compared with one text.
MOST_IN_BAND, MOST_COMPARED = 100, 50
SAME_CONTEXTS = 100  # contexts that recur, such as system prompts, whose trigrams are kept

Sketches = NDArray[Any]  # bytes, of shape (questions, SIGNS + 4 * BANDS)


class Trigrams(NamedTuple):
    """The hashes of the trigrams of a question that count, and its images, audio and files."""

    asked: set[int]
    all: set[int]  # with those of the context
    media: str


def trigrams(text: str, common: Hashes = NOTHING) -> set[int]:
    """Return the hashes of the trigrams of a text's comparison key; a key shorter than three letters is padded."""
    return set(varying_trigrams([comparable(text)], common)[0].tolist())


def comparable(text: str) -> str:
    return comparison_key(text).decode().ljust(TRIGRAM, "\0")


def trigram_reader(common: CommonPieces) -> Callable[[Question], Trigrams]:
    """Return a function that returns the trigrams of a question that count: that vary, or all where nothing varies."""

    @lru_cache(SAME_CONTEXTS)
    def of_context(text: str) -> set[int]:
        return trigrams(text, common.context)

    def trigrams_of(question: Question) -> Trigrams:
        asked = trigrams(question.asked, common.asked)
        context = of_context(question.context) if question.context else None
        if not asked and not context and not question.media:
            asked = trigrams(question.asked)
        return Trigrams(asked, asked | context if context else asked, question.media)

    return trigrams_of


def similarity_of(one: Trigrams, other: Trigrams) -> float:
    """Return how similar two questions are: their turns, and their turns and contexts together; the smaller counts.

    So two questions on one long document are different questions, and so is one question on two documents. With other
    images a question is another question.
    """
    if one.media != other.media:
        return 0.0
    alike = jaccard(one.asked, other.asked)
    has_context = one.all is not one.asked or other.all is not other.asked
    return min(alike, jaccard(one.all, other.all)) if has_context else alike


def jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def sketch(questions: Sequence[Question], common: CommonPieces = CommonPieces()) -> Sketches:  # noqa: B008
    """Return the MinHash bands of each question. Similar questions share a band with a high probability.

    Each hash of its turns is combined with that of turns and context together. So the share of equal hashes is about
    the product of both similarities.
    """
    if not questions:
        return np.empty((0, SIGNS + 4 * BANDS), np.uint8)
    texts = [comparable(question.asked) for question in questions]
    rows, counts = min_hashes(*varying_trigrams(texts, common.asked))
    places, contexts, context_counts = contexts_of(questions, common.context)
    whole = [
        n for n in np.flatnonzero((counts == 0) & (context_counts[places] == 0)).tolist() if not questions[n].media
    ]
    if whole:
        rows[whole] = min_hashes(*varying_trigrams([texts[n] for n in whole], NOTHING))[0]
    together = contexts[places]
    np.minimum(rows, together, out=together)
    rows *= np.uint64(2)
    rows += together
    for number, question in enumerate(questions):
        if question.media:
            rows[number] = mix_bits(rows[number] ^ np.uint64(xxh3_64(question.media.encode())))
    weights = mix_bits(np.arange(1, HASHES // BANDS + 1, dtype=np.uint64)) | np.uint64(1)
    bands = (rows.reshape(len(questions), BANDS, -1) * weights).sum(axis=2)
    keys = (mix_bits(bands) >> np.uint64(32)).astype("<u4")
    return np.concatenate([rows[:, :SIGNS].astype(np.uint8), keys.view(np.uint8)], axis=1)


def contexts_of(
    questions: Sequence[Question], common: Hashes
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return for each question the place of its context, and of each context the MinHashes and the number of trigrams.

    The first context is the empty one.
    """
    places = {"": 0} | {question.context: 0 for question in questions if question.context}
    places = {text: place for place, text in enumerate(places)}
    tokens, counts = varying_trigrams([comparable(text) for text in places], common)
    tokens, counts[0] = tokens[counts[0] :], 0
    return np.array([places[question.context] for question in questions]), *min_hashes(tokens, counts)


def min_hashes(tokens: Hashes, counts: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the MinHashes of each text from the tokens of all (by rensa), and the number of its tokens."""
    import rensa

    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(tokens, offsets, HASHES, 42)
    return np.array(matrix.to_rows(), np.uint64), counts


def band_of(sketches: Sketches, band: int) -> NDArray[Any]:
    """Return one band of each sketch, as a number of 32 bits."""
    start = SIGNS + 4 * band
    keys: NDArray[Any] = np.ascontiguousarray(sketches[:, start : start + 4]).view("<u4")[:, 0]
    return keys


class SketchIndex:
    """An index of sketches by band."""

    def __init__(self, sketches: Sketches) -> None:
        self.signs = sketches[:, :SIGNS].copy()
        self.order = np.empty((BANDS, len(sketches)), np.int32)
        self.keys = np.empty((BANDS, len(sketches)), np.uint32)
        for band in range(BANDS):  # one by one, as a copy of all bands would double the memory of a large index
            keys = band_of(sketches, band)
            self.order[band] = np.argsort(keys, kind="stable")
            self.keys[band] = keys[self.order[band]]

    def candidates(self, sketches: Sketches, threshold: float = NEAR) -> dict[int, list[int]]:
        """Return for each of `sketches` the texts of the index that are probably near, the most similar first."""
        shared: dict[int, list[NDArray[Any]]] = {}
        for band in range(BANDS):
            keys = band_of(sketches, band)
            left = np.searchsorted(self.keys[band], keys, "left")
            right = np.searchsorted(self.keys[band], keys, "right")
            for number in np.flatnonzero(right > left).tolist():
                some = self.order[band, left[number] : min(right[number], left[number] + MOST_IN_BAND)]
                shared.setdefault(number, []).append(some)
        found = {}
        for number, parts in sorted(shared.items()):
            others = np.unique(np.concatenate(parts))
            estimates = (self.signs[others] == sketches[number, :SIGNS]).mean(axis=1)
            first = np.argsort(-estimates, kind="stable")[:MOST_COMPARED]
            found[number] = others[first[estimates[first] >= threshold - UNCERTAIN]].tolist()
        return found


def find_near_duplicates(
    index: SketchIndex,
    sketches: Sketches,
    question_at: Callable[[int], Question],
    indexed_question_at: Callable[[int], Question],
    threshold: float = NEAR,
    common: CommonPieces = CommonPieces(),  # noqa: B008
) -> dict[int, tuple[int, float]]:
    """Return for each question that is near to one of the index: its number → that one's number and their similarity.

    `question_at` and `indexed_question_at` return the questions by their numbers. Candidates are compared exactly, so
    every pair returned is near.
    """
    found: dict[int, tuple[int, float]] = {}
    trigrams_of = trigram_reader(common)
    for number, others in index.candidates(sketches, threshold).items():
        if not others:
            continue
        own = trigrams_of(question_at(number))
        for other in others:
            similarity = similarity_of(own, trigrams_of(indexed_question_at(other)))
            if similarity >= threshold:
                found[number] = (other, similarity)
                break
    return found


def near_duplicates_of(
    texts: Sequence[str], others: Sequence[str], threshold: float = NEAR
) -> dict[int, tuple[int, float]]:
    """Return for each of `texts` that is near to one of `others`: its number → that one's number and similarity."""
    own, indexed = [Question(text) for text in texts], [Question(text) for text in others]
    index = SketchIndex(sketch(indexed))
    return find_near_duplicates(index, sketch(own), own.__getitem__, indexed.__getitem__, threshold)
