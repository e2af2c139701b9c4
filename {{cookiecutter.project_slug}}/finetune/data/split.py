"""Which split an example belongs to, decided by the example alone."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from finetune.data.near import nearest, normal
from finetune.data.rules import Example, messages_of, text_of

Keyed = tuple[str, Example]  # an example and the key that decides its split


def key_of(example: Example) -> str:
    """What identifies an example: the text that it asks with, whatever its case, width and spacing."""
    asked = (text_of(m.get("content")) for _, m in messages_of(example) if m.get("role") == "user")
    return normal("\n".join(asked))


def without_duplicates(keyed: Sequence[Keyed]) -> list[Keyed]:
    """The examples in their order, each exact copy dropped after its first."""
    first: dict[str, Keyed] = {}
    for key, example in keyed:
        first.setdefault(json.dumps(example, sort_keys=True), (key, example))
    return list(first.values())


def split_examples(keyed: Sequence[Keyed], shares: Mapping[str, float]) -> dict[str, list[Example]]:
    """The examples by split, in their order.

    The SHA-256 of an example's key is a point between 0 and 1, and the shares cut that line: so an example stays where
    it is when others come or go, and two with the same key never part.
    """
    splits: dict[str, list[Example]] = {name: [] for name in shares}
    for key, example in keyed:
        point = int(hashlib.sha256(key.encode()).hexdigest()[:16], 16) / 2**64
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
