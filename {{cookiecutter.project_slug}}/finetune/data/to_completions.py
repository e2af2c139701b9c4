"""Write chat of one question and one answer as prompts and completions, with marks that fit all texts."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Abstain
from finetune.data.completion_format import (
    CompletionFormat,
    Encode,
    Pairs,
    choose_completion_format,
    joined_marks,
    marks_of_pairs,
    question_and_answer,
    system_of,
    to_completion,
)
from finetune.data.example_spool import SpooledExamples
from finetune.data.existing_marks import without_marks
from finetune.data.raw_examples import ReadingNotes


def as_completions(
    gathered: SpooledExamples, abstain: Abstain | None, notes: ReadingNotes, encode: Encode
) -> tuple[SpooledExamples, CompletionFormat]:
    """Return the examples as prompts and completions, and their marks.

    Marks that the texts have already are kept, and noted. `encode` returns the tokens of a text.
    """
    pairs = partial(pairs_of, gathered, abstain)
    own = marks_of_pairs(partial(answered_pairs, pairs, abstain), notes.found_marks)
    notes.found_marks = joined_marks(notes.found_marks, own)

    def unmarked() -> Iterator[tuple[str, str]]:
        return (without_marks(*pair, own) for pair in pairs())

    marks = choose_completion_format(unmarked, encode, notes.found_marks)
    return replace(gathered, convert=partial(to_completion, marks=marks, own=own)), marks


def pairs_of(gathered: SpooledExamples, abstain: Abstain | None) -> Iterator[tuple[str, str]]:
    """Yield all questions and answers in the order of their hashes, so that a sample does not depend on the raw order.

    Raises FinetuneError naming a row that is not one question and one answer, or has another system prompt.
    """
    system: list[Any] | None = None
    for row in gathered.rows[np.argsort(gathered.rows["digest"], kind="stable")]:
        try:
            example = gathered.example(row)
            own = system_of(example)
            if system is not None and own != system:
                raise ValueError("another system prompt than other rows, and a completion has none")
            system = own
            yield question_and_answer(example)
        except ValueError as error:
            raise FinetuneError(
                f"data.target is 'completion', but row {row['row']} has {error}.",
                "Set data.target to 'chat', which takes whole conversations and system prompts.",
            ) from error
    if abstain:  # rows that are added later may have this answer
        yield "", abstain.answer


def answered_pairs(pairs: Pairs, abstain: Abstain | None) -> Iterator[tuple[str, str]]:
    """Yield all questions and answers without the answer to unanswerable rows, which `prepare` wrote itself."""
    return ((question, "" if abstain and answer == abstain.answer else answer) for question, answer in pairs())
