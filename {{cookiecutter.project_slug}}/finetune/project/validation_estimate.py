"""Count examples and tokens before training, and estimate the dollars to train, to evaluate and to break even."""

import math
from collections.abc import Collection, Sequence

from finetune.core.break_even import UNKNOWN, CallTokens, break_even
from finetune.core.params import Params
from finetune.core.records.checks import ValidationReport
from finetune.core.records.costs import CostEstimate, TrainingEstimate, Usd
from finetune.pricing.catalogue import Base, is_fine_tuned
from finetune.pricing.cost import auto_epochs, dollars, estimate, price_of_calls, usd_per_1000
from finetune.scoring.detectable_difference import assumption_of, detectable_difference


def report_of(
    base: Base,
    tokens: dict[str, list[int]],
    params: Params,
    unclear: Collection[str] = (),
    calls: CallTokens | None = None,
    groups: Sequence[int] | None = None,
) -> ValidationReport:
    """Count examples and tokens, and estimate the dollars to train and to evaluate.

    The ledger does not correct these estimates: it changes with each job, and `validate` would run again. Splits that
    are `unclear` have more tokens than were counted; upper limits of their costs are then unknown. `calls` are None
    then. `groups` has the group of each test row.
    """
    trained = tokens["train"] + tokens.get("replay", [])
    per_epoch, auto = sum(trained), auto_epochs(len(trained))
    asked_epochs = params.train.n_epochs

    def training(n_epochs: int) -> TrainingEstimate:
        return bill(estimate(trained, n_epochs, base.context, base.training, base.seconds))

    planned = training(auto if asked_epochs == "auto" else asked_epochs)
    asked, answered = sum(tokens["test"]), params.evaluate.max_tokens * len(tokens["test"])
    own, tuned = base.call_prices(is_fine_tuned(params.train.base)), base.call_prices(tuned=True)
    training_is_unclear = bool({"train", "replay"} & set(unclear))
    tested = len(tokens["test"])
    count = len(set(groups)) if groups else tested
    shown = detectable_difference(params.evaluate.task, tested, groups if count < tested else None)
    per_1000 = prices_of_calls(params, base, calls)
    at_most: dict[str, Usd] = {
        "base": UNKNOWN if "test" in unclear else price_of_calls(asked, answered, own),
        "tuned": UNKNOWN if "test" in unclear else price_of_calls(asked, answered, tuned),
    }
    if params.evaluate.few_shot:
        at_most["few_shot"] = UNKNOWN
        if calls:
            asked += math.ceil((calls.few_shot - calls.prompt) * len(tokens["test"]))
            at_most["few_shot"] = price_of_calls(asked, answered, own)
    report: ValidationReport = {
        "warnings": {},
        "examples": {split: len(lengths) for split, lengths in tokens.items() if split != "replay"},
        "errors": 0,
        "longest_example_tokens": max(max(lengths, default=0) for lengths in tokens.values()),
        "train_tokens_per_epoch": per_epoch,
        "train_usd_per_epoch": dollars(per_epoch, base.training if tokens["train"] else None),
        "tokens_exact": base.tokens_exact and not unclear,
        "tokens_at_least": training_is_unclear,
        "auto": training(auto),
        "planned": planned,
        "evaluate_usd_at_most": at_most,
        "break_even_calls": UNKNOWN if training_is_unclear else break_even(planned["train_usd"], **per_1000),
        "break_even": {
            "examples": calls.examples if calls else None,
            "prompt_tokens": {"few_shot": round(calls.few_shot, 1), "tuned": round(calls.prompt, 1)} if calls else {},
            "usd_per_1000": per_1000,
        },
        "detectable_difference": shown,
        "difference_assumes": assumption_of(params.evaluate.task, shown, tested, count),
    }
    if count < tested:
        report["test_groups"] = count
    return report


def prices_of_calls(params: Params, base: Base, calls: CallTokens | None) -> dict[str, Usd]:
    """Return the dollars of 1,000 calls of the base with examples in its prompt, and of the tuned model."""
    if calls is None:
        return {"few_shot": UNKNOWN, "tuned": UNKNOWN}
    own = base.call_prices(is_fine_tuned(params.train.base))
    return {
        "few_shot": usd_per_1000(calls.few_shot, calls.answer, own),
        "tuned": usd_per_1000(calls.prompt, calls.answer, base.call_prices(tuned=True)),
    }


def bill(cost: CostEstimate) -> TrainingEstimate:
    """Return the figures of an estimate that depend on the number of epochs."""
    return {
        "n_epochs": cost["n_epochs"],
        "billed_tokens": cost["billed_tokens"],
        "train_usd": cost["train_usd"],
        "seconds": cost["seconds"],
    }
