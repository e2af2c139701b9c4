"""Collect the classes of the answers, for `data.labels: auto`."""

from collections import Counter
from collections.abc import Iterator, Sequence

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Data
from finetune.data.cell_map import value_text
from finetune.data.class_codes import MOST_CLASSES
from finetune.data.examples import text_of
from finetune.data.prompts import Template
from finetune.data.raw_examples import ReadingNotes, raw_examples
from finetune.data.text_normalization import normalize

LONGEST = 100  # characters of a class
BETWEEN_CLASSES = ";|,#/+"
NAMED = 5  # classes in a warning
FEW_ROWS = 10  # so few rows may all have different classes


def collect_labels(data: Data, template: Template | None) -> list[str]:
    """Return the classes that the answers of all rows name, and that of data.abstain, in alphabetical order.

    Raises FinetuneError where the answers are not classes.
    """
    answers_only = {"assistant": template["assistant"]} if template else None
    plain = data.model_copy(update={"labels": [], "codes": False})
    counts: Counter[str] = Counter()
    rows = long = 0
    for _, _, _, _, example, _ in raw_examples(plain, answers_only, {}, ReadingNotes()):
        messages = example.get("messages")
        answer = text_of(messages[-1].get("content")).strip() if messages else ""
        rows += 1
        if answer and len(answer) <= LONGEST:
            counts[answer] += 1
        else:
            long += 1
        if len(counts) > MOST_CLASSES:
            raise no_classes(f"the first {rows:,} rows have more than {MOST_CLASSES} different answers")
    if long:
        raise no_classes(f"{long:,} of {rows:,} answers are empty or longer than {LONGEST} characters")
    if rows >= FEW_ROWS and len(counts) > rows / 2:
        raise no_classes(f"{rows:,} rows have {len(counts):,} different answers")
    return sorted({*counts, *([data.abstain.answer] if data.abstain else [])})


def no_classes(why: str) -> FinetuneError:
    return FinetuneError(
        f"data.labels is auto, but the answers are not classes: {why}.",
        "List the classes in data.labels, or set evaluate.task to extract or generate, and data.labels to [].",
    )


def alike_classes(labels: Sequence[str]) -> Iterator[str]:
    """Yield a warning for each class that is probably another spelling of one before it, or several classes."""
    first: dict[str, str] = {}
    for label in labels:
        other = first.setdefault(normalize(value_text(label)), label)
        if other != label:
            yield (
                f"the classes {other!r} and {label!r} differ only in case, spaces, Unicode form or decimals, and a"
                " model learns them as two. Write one of them, or rename one with data.map."
            )
    several = [label for label in labels if names_several(label, labels)]
    if several:
        names = ", ".join(map(repr, several[:NAMED])) + (f" and {len(several) - NAMED} more" if several[NAMED:] else "")
        yield (
            f"{names}: several classes in one answer, which a model learns as a class of their own. Keep one class a"
            " row, or write a list and set evaluate.task to extract."
        )


def names_several(label: str, labels: Sequence[str]) -> bool:
    """Return whether a class consists of other classes, such as "a;b" beside "a" and "b"."""
    return any(
        sign in label and {part.strip() for part in label.split(sign)} <= {*labels} - {label}
        for sign in BETWEEN_CLASSES
    )
