"""What a job may cost: looked at before the upload, and again before the job, whose epochs may have changed since."""

from typing import TYPE_CHECKING, Any

from finetune.core.disk import read_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import LEDGER, VALIDATION_REPORT
from finetune.pricing.catalogue import look_up
from finetune.pricing.cost import UNKNOWN, estimate
from finetune.project import ledger

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


def estimated(params: Params) -> dict[str, Any]:
    """What `finetune estimate` would say of this project's training file, corrected by what its former jobs took.

    `counted_tokens` are the tokens before that correction.
    """
    report = read_json(VALIDATION_REPORT, "validate")
    n_epochs = report["auto"]["n_epochs"] if params.train.n_epochs == "auto" else params.train.n_epochs
    base = look_up(params.train.base, params.provider.name)
    ratio, seconds = ledger.learned(params.provider.name, params.train.base)
    counted = report["train_tokens_per_epoch"]
    bill = estimate([counted], n_epochs, None, base.training, seconds or base.seconds, ratio)
    return bill | {"counted_tokens": counted * n_epochs}


def refuse_over_budget(params: Params) -> None:
    """Raises FinetuneError when the estimate for train.n_epochs is over train.budget, or is not known."""
    budget = params.train.budget
    if budget.usd is None and budget.minutes is None:
        return
    bill = estimated(params)
    seconds = bill["seconds"]
    for name, limit, takes in (
        ("usd", budget.usd, bill["train_usd"]),
        ("minutes", budget.minutes, seconds if isinstance(seconds, str) else round(seconds / 60, 1)),
    ):
        if limit is None:
            continue
        if isinstance(takes, str):
            raise unknown(params, name, limit)
        if takes > limit:
            raise FinetuneError(
                f"{bill['billed_tokens']:,} tokens in {bill['n_epochs']} epochs would take {takes:g} {name};"
                f" train.budget.{name} allows {limit:g}. Nothing was sent.",
                "Raise the budget, lower train.n_epochs, or train on fewer examples.",
            )


def refuse_over_total(params: Params) -> None:
    """Raises FinetuneError when this job, with all that the ledger holds, would go over train.budget.total_usd."""
    limit = params.train.budget.total_usd
    if limit is None:
        return
    takes = estimated(params)["train_usd"]
    bills = [row["billed_usd"] for row in ledger.rows()]
    if isinstance(takes, str) or UNKNOWN in bills:
        raise unknown(params, "total_usd", limit)
    spent = sum(map(float, bills))
    if spent + takes > limit:
        raise FinetuneError(
            f"{len(bills)} jobs have cost {spent:g} dollars ({LEDGER}) and this one would take {takes:g};"
            f" train.budget.total_usd allows {limit:g}. Nothing was sent.",
            "Raise the budget, lower train.n_epochs, or train on fewer examples.",
        )


def unknown(params: Params, name: str, limit: float) -> FinetuneError:
    return FinetuneError(
        f"train.budget.{name} is {limit:g}, but what {params.train.base!r} takes is unknown. Nothing was sent.",
        "Enter it in models.toml, or remove the budget.",
    )


def entry(params: Params, job: "FineTuningJob", usd: float | str) -> dict[str, Any]:
    """The ledger's row for a job that has ended: what it was estimated to take, and what it took."""
    bill = estimated(params)
    return {
        "job": job.id,
        "provider": params.provider.name,
        "base": params.train.base,
        "n_epochs": bill["n_epochs"],
        "counted_tokens": bill["counted_tokens"],
        "billed_tokens": UNKNOWN if job.trained_tokens is None else job.trained_tokens,
        "estimated_usd": bill["train_usd"],
        "billed_usd": usd,
        "estimated_seconds": bill["seconds"],
        "seconds": job.finished_at - job.created_at if job.finished_at else UNKNOWN,
    }
