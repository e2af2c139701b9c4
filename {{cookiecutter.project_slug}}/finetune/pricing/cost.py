"""What a fine-tune will cost: epochs, billed tokens, dollars, seconds."""

import math
from collections.abc import Sequence
from typing import Any

UNKNOWN = "unknown"  # in place of a figure that nobody knows; never 0
START_SECONDS = 30


def auto_epochs(examples: int) -> int:
    """The epochs that `auto` stands for at OpenAI: 3, but at least 100 examples seen in all, and at most 25,000.

    Source: the rule of OpenAI's cookbook, which its jobs follow; OpenAI may change it.
    """
    if examples * 3 < 100:
        return min(25, 100 // max(1, examples))
    return max(1, 25_000 // examples) if examples * 3 > 25_000 else 3


def dollars(tokens: float, price: float | None) -> float | str:
    """What tokens cost at a price per million, to four places; UNKNOWN without one."""
    return UNKNOWN if price is None else round(tokens * price / 1_000_000, 4)


def of_calls(prompt_tokens: float, answer_tokens: float, prices: tuple[float | None, float | None]) -> float | str:
    """Dollars for prompts and answers at prices per million of either; UNKNOWN where one is not known."""
    asked, answered = dollars(prompt_tokens, prices[0]), dollars(answer_tokens, prices[1])
    return UNKNOWN if isinstance(asked, str) or isinstance(answered, str) else round(asked + answered, 4)


def break_even(train_usd: float | str, base_call: float | str, tuned_call: float | str) -> int | str | None:
    """How many calls pay for a training; None where the tuned model's are no cheaper, UNKNOWN without the prices."""
    if isinstance(train_usd, str) or isinstance(base_call, str) or isinstance(tuned_call, str):
        return UNKNOWN
    saved = base_call - tuned_call
    return math.ceil(train_usd / saved) if saved > 0 else None


def estimate(
    lengths: Sequence[int],
    n_epochs: int,
    context: int | None,
    price: float | None,
    seconds: float | None,
    ratio: float = 1.0,
) -> dict[str, Any]:
    """The bill of a training file before it is sent.

    `lengths` are the tokens of its examples, of which `context` are trained on at most; `price` is in dollars and
    `seconds` in seconds per million billed tokens; `ratio` is of the tokens that are billed to those that are counted
    here. Billed are the tokens of each epoch; validation is not.
    """
    tokens = sum(min(length, context) if context else length for length in lengths)
    billed = round(tokens * n_epochs * ratio)
    return {
        "examples": len(lengths),
        "tokens": tokens,
        "n_epochs": n_epochs,
        "billed_tokens": billed,
        "train_usd": dollars(billed, price),
        "seconds": UNKNOWN if seconds is None else round(START_SECONDS + billed * seconds / 1_000_000),
    }
