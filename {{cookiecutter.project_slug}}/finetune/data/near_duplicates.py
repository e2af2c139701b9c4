"""Near duplicates: texts that differ in a typo, a word or a number, found without comparing all pairs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.data.hashes import mix_bits
from finetune.data.text_normalization import comparison_key

# Two texts are near duplicates from this Jaccard similarity of their sets of trigrams (three letters in a row). One
# word in ten changed leaves about 0.8.
NEAR = 0.8
TRIGRAM = 3
# Two texts at 0.8 share one of 32 bands of 8 hashes with a probability of 1 - (1 - 0.8⁸)³² = 0.997, at 0.85 of 0.9999;
# two at 0.5 of 0.12, at 0.25 of 0.0005. So even among a million texts with common phrases few pairs are compared.
HASHES, BANDS = 256, 32
# One byte of each of the first 64 hashes: the share of equal bytes estimates the similarity of two texts with a
# standard deviation of 0.05.
SIGNS = 64
UNLIKELY = NEAR - 4 * 0.05
# Limits where very many texts are alike: texts looked at in one band, and texts compared with one text.
MOST_IN_BAND, MOST_COMPARED = 100, 50

Sketches = NDArray[Any]  # bytes, of shape (texts, SIGNS + 4 * BANDS)


def trigrams(text: str) -> set[str]:
    """Return the trigrams of a text's comparison key; a key shorter than three letters is its own trigram."""
    key = comparison_key(text).decode()
    return {key[start : start + TRIGRAM] for start in range(max(1, len(key) - TRIGRAM + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def sketch(texts: Sequence[str]) -> Sketches:
    """Return the MinHash bands of each text (by rensa). Similar texts share a band with a high probability."""
    import rensa

    if not texts:
        return np.empty((0, SIGNS + 4 * BANDS), np.uint8)
    padded = [comparison_key(text).decode().ljust(TRIGRAM, "\0") for text in texts]
    lengths = np.array([len(text) for text in padded])
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    packed = letters[:-2] | letters[1:-1] << np.uint64(21) | letters[2:] << np.uint64(42)  # a code point has 21 bits
    ends = np.cumsum(lengths)
    inside = np.ones(len(packed), bool)
    inside[ends[:-1] - 1] = inside[ends[:-1] - 2] = False  # trigrams that reach into the next text
    offsets = np.concatenate([[0], np.cumsum(lengths - TRIGRAM + 1)]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(mix_bits(packed[inside]), offsets, HASHES, 42)
    rows = np.array(matrix.to_rows(), np.uint64)
    weights = mix_bits(np.arange(1, HASHES // BANDS + 1, dtype=np.uint64)) | np.uint64(1)
    bands = (rows.reshape(len(texts), BANDS, -1) * weights).sum(axis=2)
    keys = (mix_bits(bands) >> np.uint64(32)).astype("<u4")
    return np.concatenate([rows[:, :SIGNS].astype(np.uint8), keys.view(np.uint8)], axis=1)


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

    def candidates(self, sketches: Sketches) -> dict[int, list[int]]:
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
            found[number] = others[first[estimates[first] >= UNLIKELY]].tolist()
        return found


def find_near_duplicates(
    index: SketchIndex,
    sketches: Sketches,
    text_at: Callable[[int], str],
    indexed_text_at: Callable[[int], str],
    threshold: float = NEAR,
) -> dict[int, tuple[int, float]]:
    """Return for each text that is near to one of the index: its number → that text's number and their similarity.

    `text_at` and `indexed_text_at` return the texts by their numbers. Candidates are compared exactly, so every pair
    returned is near.
    """
    found: dict[int, tuple[int, float]] = {}
    for number, others in index.candidates(sketches).items():
        own = trigrams(text_at(number))
        for other in others:
            similarity = jaccard(own, trigrams(indexed_text_at(other)))
            if similarity >= threshold:
                found[number] = (other, similarity)
                break
    return found


def near_duplicates_of(
    texts: Sequence[str], others: Sequence[str], threshold: float = NEAR
) -> dict[int, tuple[int, float]]:
    """Return for each of `texts` that is near to one of `others`: its number → that one's number and similarity."""
    index = SketchIndex(sketch(others))
    return find_near_duplicates(index, sketch(texts), texts.__getitem__, others.__getitem__, threshold)
