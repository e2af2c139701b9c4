"""Near duplicates: texts that differ in a typo, a word or a number, found among many without comparing all pairs."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Jaccard similarity of the sets of three-letter pieces: from here on two texts count as the same question. One word in
# ten changed leaves about 0.8.
NEAR = 0.8
PIECE = 3
# Two texts at 0.8 share one of 32 bands of 8 hashes with a chance of 1 - (1 - 0.8⁸)³² = 0.997, at 0.85 of 0.9999; two
# at 0.5 of 0.12, at 0.25 of 0.0005: so even among a million texts with common phrases few are compared in vain.
HASHES, BANDS = 256, 32
# A byte of each of the first 64 hashes: how many of them two texts share tells their similarity to 0.05 (one standard
# deviation).
SIGNS = 64
UNLIKELY = NEAR - 4 * 0.05
# Where a crowd is alike, any of it will do: so many of it are looked at in a band, so many are compared with a text.
CROWD, CANDIDATES = 100, 50

SPACES = b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"
Sketches = NDArray[Any]  # bytes, of shape (texts, SIGNS + 4 * BANDS)


def normal(text: str) -> str:
    """A text without what does not change what it asks: case, width, the kind and the number of its spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def bare(text: str) -> bytes:
    """A text without case, width and spaces, in UTF-8: two with the same bare text ask the same."""
    if not text.isascii():
        text = "".join(unicodedata.normalize("NFKC", text).split())
    return text.casefold().encode().translate(None, SPACES)


def pieces(text: str) -> set[str]:
    """The three-letter pieces of a bare text; a shorter text is its own piece. So what asks the same is alike to 1."""
    plain = bare(text).decode()
    return {plain[start : start + PIECE] for start in range(max(1, len(plain) - PIECE + 1))}


def similarity(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def sketch(texts: Sequence[str]) -> Sketches:
    """What texts that are alike have in common with a high chance: the bands of their MinHash (by rensa)."""
    import rensa

    if not texts:
        return np.empty((0, SIGNS + 4 * BANDS), np.uint8)
    padded = [bare(text).decode().ljust(PIECE, "\0") for text in texts]
    lengths = np.array([len(text) for text in padded])
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    packed = letters[:-2] | letters[1:-1] << np.uint64(21) | letters[2:] << np.uint64(42)  # a code point has 21 bits
    ends = np.cumsum(lengths)
    inside = np.ones(len(packed), bool)
    inside[ends[:-1] - 1] = inside[ends[:-1] - 2] = False  # pieces of two texts
    offsets = np.concatenate([[0], np.cumsum(lengths - PIECE + 1)]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(mixed(packed[inside]), offsets, HASHES, 42)
    rows = np.array(matrix.to_rows(), np.uint64)
    weights = mixed(np.arange(1, HASHES // BANDS + 1, dtype=np.uint64)) | np.uint64(1)
    bands = (rows.reshape(len(texts), BANDS, -1) * weights).sum(axis=2)
    keys = (mixed(bands) >> np.uint64(32)).astype("<u4")
    return np.concatenate([rows[:, :SIGNS].astype(np.uint8), keys.view(np.uint8)], axis=1)


def band_of(sketches: Sketches, band: int) -> NDArray[Any]:
    """One band of each sketch, as a number of 32 bits."""
    start = SIGNS + 4 * band
    keys: NDArray[Any] = np.ascontiguousarray(sketches[:, start : start + 4]).view("<u4")[:, 0]
    return keys


def mixed(values: NDArray[Any]) -> NDArray[Any]:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014): each bit of a value moves about half of the result's."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    result: NDArray[Any] = values ^ values >> np.uint64(31)
    return result


class Index:
    """Sketches in which those that share a band with others are found by bisection."""

    def __init__(self, sketches: Sketches) -> None:
        self.signs = sketches[:, :SIGNS].copy()
        self.order = np.empty((BANDS, len(sketches)), np.int32)
        self.keys = np.empty((BANDS, len(sketches)), np.uint32)
        for band in range(BANDS):  # one by one: a large index shall not need its size twice
            keys = band_of(sketches, band)
            self.order[band] = np.argsort(keys, kind="stable")
            self.keys[band] = keys[self.order[band]]

    def candidates(self, sketches: Sketches) -> dict[int, list[int]]:
        """For each of `sketches` those of the index that are likely near, the likeliest first."""
        shared: dict[int, list[NDArray[Any]]] = {}
        for band in range(BANDS):
            keys = band_of(sketches, band)
            left = np.searchsorted(self.keys[band], keys, "left")
            right = np.searchsorted(self.keys[band], keys, "right")
            for number in np.flatnonzero(right > left).tolist():
                some = self.order[band, left[number] : min(right[number], left[number] + CROWD)]
                shared.setdefault(number, []).append(some)
        found = {}
        for number, parts in sorted(shared.items()):
            others = np.unique(np.concatenate(parts))
            likely = (self.signs[others] == sketches[number, :SIGNS]).mean(axis=1)
            first = np.argsort(-likely, kind="stable")[:CANDIDATES]
            found[number] = others[first[likely[first] >= UNLIKELY]].tolist()
        return found


def twins(
    index: Index,
    sketches: Sketches,
    mine: Callable[[int], str],
    theirs: Callable[[int], str],
    threshold: float = NEAR,
) -> dict[int, tuple[int, float]]:
    """For each text that is near to one of the index: its number → that one's number and their similarity.

    `mine` and `theirs` give the texts, which are compared exactly: what is reported is near.
    """
    found: dict[int, tuple[int, float]] = {}
    for number, others in index.candidates(sketches).items():
        own = pieces(mine(number))
        for other in others:
            alike = similarity(own, pieces(theirs(other)))
            if alike >= threshold:
                found[number] = (other, alike)
                break
    return found


def twins_of(texts: Sequence[str], others: Sequence[str], threshold: float = NEAR) -> dict[int, tuple[int, float]]:
    """`twins` of one list of texts in another."""
    return twins(Index(sketch(others)), sketch(texts), texts.__getitem__, others.__getitem__, threshold)
