"""Propose the task and the classes, from what the answers of a file look like."""

from collections import Counter
from typing import get_args

from finetune.core.errors import FinetuneError
from finetune.core.task import Task
from finetune.data.class_codes import MOST_CLASSES
from finetune.data.file_look import COUNTED_LETTERS, Column


def task_of(answers: Column, chosen: Task | None, are_preferences: bool) -> tuple[Task, str]:
    """Return the task, and why."""
    if are_preferences and chosen == "classify":
        raise FinetuneError(
            "Rows with a preferred answer and another one cannot have the task classify.",
            "Choose generate or extract, or give each row one answer.",
        )
    different = len({value.strip() for value in answers.values})
    if chosen:
        if chosen not in get_args(Task):
            raise FinetuneError(f"There is no task {chosen!r}.", f"Choose one of: {', '.join(get_args(Task))}.")
        if chosen == "classify" and (different > MOST_CLASSES or len(answers.longest) > COUNTED_LETTERS):
            raise FinetuneError(
                f"The answers are not classes: more than {MOST_CLASSES} different ones, or longer than"
                f" {COUNTED_LETTERS} letters.",
                "Choose extract or generate, or another column for the answer.",
            )
        return chosen, "as asked for"
    if answers.kind == "json":
        return "extract", "the answers are JSON"
    if answers.is_classes and not are_preferences:
        return "classify", in_rows(f"{different} different short answers", different, answers)
    at_least = "at least " if answers.compared < answers.filled else ""
    texts = f"{at_least}{len(answers.distinct):,} different answers"
    longest = f"with up to {len(answers.longest):,} letters"
    return "generate", f"{in_rows(texts, len(answers.distinct), answers)}, {longest}"


def in_rows(texts: str, different: int, answers: Column) -> str:
    """Return how many answers differ in how many rows, in words that also fit one answer, and one row."""
    if different == 1:
        return f"the same answer in all {answers.filled:,} rows" if answers.filled > 1 else "one answer in one row"
    return f"{texts} in {answers.filled:,} rows"


def labels_of(answers: Column) -> list[str]:
    """Return the classes, which `prepare` trims: the most frequent one first, numbers and A, B, C in their order."""
    counts = Counter[str]()
    for value, times in answers.values.items():
        counts[value.strip()] += times
    if all(map(str.isdecimal, counts)):
        return sorted(counts, key=int)
    if all(len(name) == 1 and name.isupper() for name in counts):
        return sorted(counts)
    return sorted(counts, key=lambda name: (-counts[name], name))
