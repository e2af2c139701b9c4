"""Count the examples of the splits, by length and by class."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from finetune.core.records.checks import ClassCount, LengthCount
from finetune.data.checks.whole_file import CheckedFile

BINS = 20


def histogram(checked: Mapping[str, CheckedFile]) -> list[LengthCount]:
    """Return examples by length in tokens: rows of split, upper edge of the bin and count."""
    longest = max(int(found.tokens.max(initial=1)) for found in checked.values())
    width = -(-longest // BINS)
    rows: list[LengthCount] = []
    for split, found in checked.items():
        edges, counts = np.unique(-(-found.tokens // width) * width, return_counts=True)
        bins = zip(edges.tolist(), counts.tolist(), strict=True)
        rows += [{"split": split, "tokens": edge, "examples": count} for edge, count in bins]
    return rows


def balance_of(checked: Mapping[str, CheckedFile]) -> list[ClassCount]:
    """Return examples by class and split; [] if the answers are not classes."""
    if not checked["train"].classes:
        return []
    return [
        {"class": name, "split": split, "examples": count}
        for split, found in checked.items()
        for name, count in sorted((found.answers or Counter()).items(), key=lambda item: (-item[1], item[0]))
    ]
