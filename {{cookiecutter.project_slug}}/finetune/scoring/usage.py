"""Count what a model's answers take: tokens and dollars per call, refused rows, milliseconds."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from finetune.core.break_even import UNKNOWN
from finetune.core.params import Params
from finetune.core.records.answers import Latency, Prediction
from finetune.core.records.evaluation import Metrics
from finetune.pricing.catalogue import is_fine_tuned, look_up
from finetune.pricing.cost import usd_per_1000

BATCH_PRICE = 0.5  # of the price of single calls, without a discount for cached tokens (OpenAI's price page)


def usage(params: Params, rows: Sequence[Prediction], tuned: bool, base: str | None = None) -> Metrics:
    """Return the mean tokens of a call, the dollars of 1,000 calls, and the numbers of rows without an answer,
    of refusals and of cut answers.

    `tuned` says whether a fine-tuned model answered, or the base, which may be a fine-tuned model too. `base` is the
    base of the model if it is not that of the project. `usd_per_1000` is always the price of single calls; with
    evaluate.batch, `usd_per_1000_batch` is the price by batch.
    """
    base = base or params.train.base
    prices = look_up(base, params.provider.name).call_prices(tuned or is_fine_tuned(base))
    metrics: Metrics = {
        "failed": sum("error" in row for row in rows),
        "refused": sum("refused" in row for row in rows),
        "cut": sum("cut" in row for row in rows),
    }
    prompt, completion = mean(rows, "prompt_tokens"), mean(rows, "completion_tokens")
    if prompt is None or completion is None:
        return metrics | {"usd_per_1000": UNKNOWN}
    answered = [row for row in rows if "error" not in row]
    cached = sum(row.get("cached_tokens", 0) for row in answered) / len(answered)
    metrics |= {
        "prompt_tokens": round(prompt, 1),
        "completion_tokens": round(completion, 1),
        "usd_per_1000": usd_per_1000(prompt, completion, prices, cached),
    }
    if cached:
        metrics["cached_tokens"] = round(cached, 1)
    if params.evaluate.batch:
        usd = usd_per_1000(prompt, completion, prices)
        metrics["usd_per_1000_batch"] = usd if isinstance(usd, str) else round(usd * BATCH_PRICE, 6)
    return metrics


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


def saved_by_tuning(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the prompt tokens of a call and the dollars of 1,000 calls that tuning saves against few_shot.

    {} without few_shot, or if a provider does not count tokens; the dollars only where the prices are known.
    """
    few_shot, tuned = (metrics.get(model, {}) for model in ("few_shot", "tuned"))
    if "prompt_tokens" not in few_shot or "prompt_tokens" not in tuned:
        return {}
    saved = {"saved_prompt_tokens": round(few_shot["prompt_tokens"] - tuned["prompt_tokens"], 1)}
    if UNKNOWN not in (few_shot["usd_per_1000"], tuned["usd_per_1000"]):
        saved["saved_usd_per_1000"] = round(few_shot["usd_per_1000"] - tuned["usd_per_1000"], 6)
    return saved


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
