"""Collect the classes of the answers, for `data.labels: auto`."""

from collections import Counter

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Data
from finetune.data.class_codes import MOST_CLASSES
from finetune.data.examples import text_of
from finetune.data.prompts import Template
from finetune.data.raw_examples import ReadingNotes, raw_examples

LONGEST = 100  # characters of a class
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
