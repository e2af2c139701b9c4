"""Count what a model's answers take: tokens and dollars per call, refused rows, milliseconds."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from finetune.core.params import Params
from finetune.core.records import Latency, Metrics, Prediction
from finetune.pricing.catalogue import look_up
from finetune.pricing.cost import UNKNOWN, price_of_calls

BATCH_PRICE = 0.5  # of the price of single calls
CALLS = 1000


def usage(params: Params, rows: Sequence[Prediction], tuned: bool) -> Metrics:
    """Return the mean tokens of a call, the dollars of 1,000 calls, and the numbers of refused and of cut rows.

    `tuned` says whether the prices of the base's fine-tunes apply, or those of the base.
    """
    known = look_up(params.train.base, params.provider.name)
    prices = (known.input, known.output) if tuned else (known.base_input, known.base_output)
    metrics: Metrics = {"failed": sum("error" in row for row in rows), "cut": sum("cut" in row for row in rows)}
    prompt, completion = mean(rows, "prompt_tokens"), mean(rows, "completion_tokens")
    if prompt is None or completion is None:
        return metrics | {"usd_per_1000": UNKNOWN}
    usd = price_of_calls(prompt * CALLS, completion * CALLS, prices)
    if params.evaluate.batch and not isinstance(usd, str):
        usd = round(usd * BATCH_PRICE, 4)
    return metrics | {
        "prompt_tokens": round(prompt, 1),
        "completion_tokens": round(completion, 1),
        "usd_per_1000": usd,
    }


def cut_warning(rows: Sequence[Prediction], max_tokens: int) -> str | None:
    """Return a warning of answers that were cut, with the length to set; None without any.

    The length is that of the longest right answer, at the letters per token of the cut answers, and a fifth more.
    """
    cut = [row for row in rows if "cut" in row]
    if not cut:
        return None
    tokens = sum(row["completion_tokens"] or max_tokens for row in cut)
    longest = max(len(row["expected"]) for row in rows)
    needed = max(2 * max_tokens, math.ceil(1.2 * longest * tokens / max(1, sum(len(row["answer"]) for row in cut))))
    return (
        f"{len(cut)} of {len(rows)} answers of the tuned model were cut at evaluate.max_tokens, {max_tokens}, and are"
        f" scored as they are. Set it to {needed}."
    )


def saved_prompt_tokens(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the prompt tokens per call that tuning saves against the base with examples in its prompt.

    {} without such examples, or if a provider does not count tokens.
    """
    before, after = (metrics.get(model, {}).get("prompt_tokens") for model in ("few_shot", "tuned"))
    return {} if before is None or after is None else {"saved_prompt_tokens": round(before - after, 1)}


def mean(rows: Sequence[Prediction], key: Literal["prompt_tokens", "completion_tokens"]) -> float | None:
    """Return the mean over the answered rows; None if one of them lacks the number."""
    values = [row.get(key) for row in rows if "error" not in row]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def latency(rows: Sequence[Prediction]) -> Latency:
    """Return the median and the 95th percentile of the milliseconds per answer; {} if they were not measured."""
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    if not seconds:
        return {}
    import numpy as np

    median, late = np.percentile(seconds, [50, 95]) * 1000
    return {"median_ms": round(float(median), 1), "p95_ms": round(float(late), 1)}
