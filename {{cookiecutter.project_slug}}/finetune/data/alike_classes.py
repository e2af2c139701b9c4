"""Find classes that are probably one class in two spellings, or several classes in one answer."""

import re
from collections.abc import Iterator, Sequence

from finetune.data.cell_map import value_text
from finetune.data.text_normalization import normalize

BETWEEN_CLASSES = ";|,#/+"
NAMED = 5  # classes in a warning
LEADING_ZEROS = re.compile(r"^0+(?=\d+$)")


def alike_classes(labels: Sequence[str]) -> Iterator[str]:
    """Yield a warning for each class that is probably another spelling of one before it, or several classes."""
    first: dict[str, str] = {}
    for label in labels:
        other = first.setdefault(spelling_key(label), label)
        if other != label:
            yield (
                f"the classes {other!r} and {label!r} differ only in case, spaces, Unicode form, zeros or decimals,"
                " and a model learns them as two. Write one of them, or rename one with data.map."
            )
    several = [label for label in labels if names_several(label, labels)]
    if several:
        names = ", ".join(map(repr, several[:NAMED])) + (f" and {len(several) - NAMED} more" if several[NAMED:] else "")
        yield (
            f"{names}: several classes in one answer, which a model learns as a class of their own. Keep one class a"
            " row, or write a list and set evaluate.task to extract."
        )


def spelling_key(label: str) -> str:
    """Return what the spellings of one class have in common: "Billing" and "billing", or "1", "01" and "1.0"."""
    return LEADING_ZEROS.sub("", normalize(value_text(label)))


def names_several(label: str, labels: Sequence[str]) -> bool:
    """Return whether a class consists of other classes, such as "a;b" beside "a" and "b"."""
    return any(
        sign in label and {part.strip() for part in label.split(sign)} <= {*labels} - {label}
        for sign in BETWEEN_CLASSES
    )
