"""Estimate what a fine-tune costs: epochs, billed tokens, dollars, seconds."""

from collections.abc import Sequence

from finetune.core.break_even import UNKNOWN
from finetune.core.records.costs import CostEstimate, Usd
from finetune.pricing.catalogue import CallPrices

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


def price_of_calls(prompt_tokens: float, answer_tokens: float, prices: Sequence[float | None]) -> Usd:
    """Return the dollars for prompt and answer tokens at their prices per million; UNKNOWN if a price is not known."""
    asked, answered = dollars(prompt_tokens, prices[0]), dollars(answer_tokens, prices[1])
    return UNKNOWN if isinstance(asked, str) or isinstance(answered, str) else rounded(asked + answered)


def usd_per_1000(prompt_tokens: float, answer_tokens: float, prices: CallPrices, cached_tokens: float = 0) -> Usd:
    """Return the dollars of 1,000 calls with these tokens each; UNKNOWN if a price is not known.

    `cached_tokens` are those of the prompt that the provider has cached. They have their own price if it is known and
    lower, else that of the others.
    """
    if prices.input is None or prices.output is None:
        return UNKNOWN
    cached_input = prices.input if prices.cached_input is None else min(prices.cached_input, prices.input)
    prompt = (prompt_tokens - cached_tokens) * prices.input + cached_tokens * cached_input
    return round(1000 * (prompt + answer_tokens * prices.output) / 1_000_000, 6)


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
