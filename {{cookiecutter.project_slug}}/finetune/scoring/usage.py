"""What a model's answers take: tokens and dollars a call, and how many were refused."""

from typing import Any

from finetune.asking.test_rows import Rows
from finetune.core.params import Params
from finetune.pricing.catalogue import look_up
from finetune.pricing.cost import UNKNOWN, of_calls

BATCH_PRICE = 0.5  # of the price of single calls
CALLS = 1000


def usage(params: Params, rows: Rows, tuned: bool) -> dict[str, Any]:
    """Mean tokens of a call, dollars for 1,000 calls at the prices of the base or of its fine-tunes, refused rows."""
    known = look_up(params.train.base, params.provider.name)
    prices = (known.input, known.output) if tuned else (known.base_input, known.base_output)
    told: dict[str, Any] = {"failed": sum("error" in row for row in rows)}
    prompt, completion = mean(rows, "prompt_tokens"), mean(rows, "completion_tokens")
    if prompt is None or completion is None:
        return told | {"usd_per_1000": UNKNOWN}
    usd = of_calls(prompt * CALLS, completion * CALLS, prices)
    if params.evaluate.batch and not isinstance(usd, str):
        usd = round(usd * BATCH_PRICE, 4)
    return told | {"prompt_tokens": round(prompt, 1), "completion_tokens": round(completion, 1), "usd_per_1000": usd}


def saved(metrics: dict[str, Any]) -> dict[str, Any]:
    """The prompt tokens of a call that tuning saves against the base with examples in its prompt.

    Nothing where there are no such examples, or a provider does not count.
    """
    before, after = (metrics.get(model, {}).get("prompt_tokens") for model in ("few_shot", "tuned"))
    return {} if before is None or after is None else {"saved_prompt_tokens": round(before - after, 1)}


def mean(rows: Rows, key: str) -> float | None:
    """The mean over the rows that were answered; None where one of them does not say."""
    values = [row.get(key) for row in rows if "error" not in row]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
