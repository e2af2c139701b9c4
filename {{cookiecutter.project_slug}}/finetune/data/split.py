"""Which split an example belongs to, decided by the example alone."""

import hashlib
from collections.abc import Mapping, Sequence

from finetune.data.near import nearest, normal
from finetune.data.prompts import Example


def key_of(example: Example) -> str:
    """What identifies an example: the text that it asks with, whatever its case, width and spacing."""
    return normal("\n".join(m["content"] for m in example["messages"] if m["role"] == "user"))


def without_duplicates(examples: Sequence[Example]) -> list[Example]:
    """The examples in their order, each exact copy dropped after its first."""
    seen: set[str] = set()
    kept = []
    for example in examples:
        identity = repr(example["messages"])
        if identity not in seen:
            seen.add(identity)
            kept.append(example)
    return kept


def split_examples(examples: Sequence[Example], shares: Mapping[str, float]) -> dict[str, list[Example]]:
    """The examples by split, in their order.

    The SHA-256 of an example's key is a point between 0 and 1, and the shares cut that line: so an example stays where
    it is when others come or go, and two with the same question never part.
    """
    splits: dict[str, list[Example]] = {name: [] for name in shares}
    for example in examples:
        point = int(hashlib.sha256(key_of(example).encode()).hexdigest()[:16], 16) / 2**64
        edge = 0.0
        for name, share in shares.items():
            edge += share
            if point < edge:
                splits[name].append(example)
                break
        else:
            splits[list(shares)[-1]].append(example)
    return splits


def without_leaks(splits: Mapping[str, Sequence[Example]]) -> tuple[dict[str, list[Example]], int]:
    """The splits without the examples of one that are near to another's, and how many were left out.

    The test split stays whole, then the validation split: what is near to them is left out of training. So no example
    moves, whatever comes or goes, and what is left does not depend on the order of rows.
    """
    kept: dict[str, list[Example]] = {}
    held: list[str] = []
    for name in reversed(list(splits)):
        near = nearest([key_of(example) for example in splits[name]], held)
        kept[name] = [example for index, example in enumerate(splits[name]) if index not in near]
        held += [key_of(example) for example in kept[name]]
    return {name: kept[name] for name in splits}, sum(map(len, splits.values())) - sum(map(len, kept.values()))
