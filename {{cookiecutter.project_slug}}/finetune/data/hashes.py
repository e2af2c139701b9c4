"""64-bit hashes of examples and texts."""

import hashlib
from typing import Any

import xxhash
from numpy import uint64
from numpy.typing import NDArray


def sha256_64(content: bytes) -> int:
    """Return the first 64 bits of the SHA-256. Splits depend on them."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def xxh3_64(content: bytes) -> int:
    """Return 64 bits of XXH3. Two of a million texts share a hash once in 40 million times."""
    return xxhash.xxh3_64_intdigest(content)


def mix_bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return SplitMix64's finalizer of each value (Steele, Lea, Flood 2014): each input bit flips half the output bits.

    `values` and the result are arrays of uint64.
    """
    values = (values ^ values >> uint64(30)) * uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> uint64(27)) * uint64(0x94D049BB133111EB)
    result: NDArray[Any] = values ^ values >> uint64(31)
    return result
