"""After how many calls a training has paid for itself, and the tokens of a call on which that depends."""

import math
from typing import NamedTuple

from finetune.core.records.costs import Usd

UNKNOWN = "unknown"  # a figure that is not known; never 0


class CallTokens(NamedTuple):
    """The mean tokens of a call over the test rows."""

    prompt: float
    few_shot: float  # of a prompt with examples before the question
    answer: float  # of the right answer
    examples: int  # in the few-shot prompt


def break_even(train_usd: Usd, few_shot: Usd, tuned: Usd) -> int | str | None:
    """Return the number of calls after which a training has paid for itself, from the dollars of 1,000 calls.

    `few_shot` is the base model with examples in its prompt. None if calls of the tuned model are not cheaper; UNKNOWN
    if a price is not known.
    """
    if isinstance(train_usd, str) or isinstance(few_shot, str) or isinstance(tuned, str):
        return UNKNOWN
    saved = few_shot - tuned
    return math.ceil(train_usd / saved * 1000) if saved > 0 else None
