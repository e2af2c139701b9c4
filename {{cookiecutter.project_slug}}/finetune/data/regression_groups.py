"""Number the groups of a regression set's examples: those of one group are not independent of each other."""

import json
from collections.abc import Sequence
from typing import Any

from finetune.core.records.prepared import Example
from finetune.data.cell_paths import cell_of
from finetune.data.examples import SYSTEM_ROLES
from finetune.data.prompts import cell_text


def groups_of_examples(examples: Sequence[Example], key: str) -> list[int]:
    """Return the number of each example's group, from 0.

    A group are the examples with the same value of `key`, of one conversation, of which each has the beginning, or with
    the same question.
    """
    prefixes = [prefixes_of(example["messages"]) for example in examples]
    questions = {found[-1] for found in prefixes}
    numbers: dict[tuple[str, str], int] = {}
    groups = []
    for example, found in zip(examples, prefixes, strict=True):
        cell = cell_text(cell_of(example, key)).strip()
        beginning = next(text for text in found if text in questions)
        name = ("cell", cell) if cell else ("conversation", beginning)
        groups.append(numbers.setdefault(name, len(numbers)))
    return groups


def prefixes_of(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the beginnings of a conversation as JSON, the shortest first; the last one is all but the answer."""
    turns = [[turn["role"], turn.get("content")] for turn in messages[:-1]]
    ends = [end for end in range(1, len(turns) + 1) if turns[end - 1][0] not in SYSTEM_ROLES] or [len(turns)]
    return [json.dumps(turns[:end], sort_keys=True) for end in ends]
