"""Near duplicates: texts that differ in a typo, a word or a number, found among many without comparing all pairs."""

import unicodedata
from collections.abc import Sequence

# Jaccard similarity of the sets of three-letter pieces: from here on two texts count as the same question. One word in
# ten changed leaves about 0.8.
NEAR = 0.8
PIECE = 3
HASHES, BANDS = 128, 32  # a pair at 0.8 shares one of 32 bands of 4 hashes with a chance of 1 - (1 - 0.8⁴)³² > 0.9999


def normal(text: str) -> str:
    """A text without what does not change what it asks: case, width, the kind and the number of its spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def pieces(text: str) -> set[str]:
    """The three-letter pieces of a text's normal form; a shorter text is its own piece."""
    bare = normal(text)
    return {bare[start : start + PIECE] for start in range(max(1, len(bare) - PIECE + 1))}


def similarity(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def nearest(texts: Sequence[str], others: Sequence[str], threshold: float = NEAR) -> dict[int, tuple[int, float]]:
    """For each text that is near to one of `others`: its index → the index of the nearest and their similarity.

    Candidates come from MinHash and locality-sensitive hashing (rensa), and are then compared exactly; so what is
    reported is near, and what is near at 0.8 is missed once in 10,000 times.
    """
    import rensa

    mine, theirs = [pieces(text) for text in texts], [pieces(text) for text in others]
    index = rensa.RMinHashLSH(threshold, HASHES, BANDS)
    index.insert_many(rensa.RMinHash.from_token_sets(theirs, HASHES, 42))
    candidates = index.query_all(rensa.RMinHash.from_token_sets(mine, HASHES, 42))
    found: dict[int, tuple[int, float]] = {}
    for i, keys in enumerate(candidates):
        alike = [(similarity(mine[i], theirs[j]), -j) for j in set(keys)]
        if alike and max(alike)[0] >= threshold:
            best, j = max(alike)
            found[i] = (-j, best)
    return found
