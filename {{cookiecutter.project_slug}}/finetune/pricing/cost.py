"""Estimate what a fine-tune costs: epochs, billed tokens, dollars, seconds."""

import math
from collections.abc import Sequence

from finetune.core.records import CostEstimate, Usd

UNKNOWN = "unknown"  # a figure that is not known; never 0
START_SECONDS = 30  # from the start of a job to its first step


def auto_epochs(examples: int) -> int:
    """Return the epochs of `auto` at OpenAI: 3, but at least 100 examples in total, and at most 25,000.

    Source: the rule in OpenAI's cookbook, which its jobs follow. OpenAI may change it.
    """
    if examples * 3 < 100:
        return min(25, 100 // max(1, examples))
    return max(1, 25_000 // examples) if examples * 3 > 25_000 else 3


def dollars(tokens: float, price: float | None) -> Usd:
    """Return the dollars for tokens at a price per million, rounded; UNKNOWN without a price."""
    return UNKNOWN if price is None else rounded(tokens * price / 1_000_000)


def rounded(usd: float) -> float:
    """Return dollars to four decimals, or to one digit where that would be 0."""
    return round(usd, 4) or float(f"{usd:.0e}")


def price_of_calls(prompt_tokens: float, answer_tokens: float, prices: tuple[float | None, float | None]) -> Usd:
    """Return the dollars for prompt and answer tokens at their prices per million; UNKNOWN if a price is not known."""
    asked, answered = dollars(prompt_tokens, prices[0]), dollars(answer_tokens, prices[1])
    return UNKNOWN if isinstance(asked, str) or isinstance(answered, str) else rounded(asked + answered)


def break_even(train_usd: Usd, base_call: Usd, tuned_call: Usd) -> int | str | None:
    """Return the number of calls after which a training has paid for itself.

    None if calls of the tuned model are not cheaper; UNKNOWN if a price is not known.
    """
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
) -> CostEstimate:
    """Estimate the cost of a training file.

    `lengths` are the tokens of its examples; at most `context` tokens of each are trained on. `price` is in dollars and
    `seconds` in seconds per million billed tokens. `ratio` is billed tokens per counted token. The tokens of each epoch
    are billed; validation is not. A file without a counted example costs UNKNOWN.
    """
    if not lengths:
        price = seconds = None
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
