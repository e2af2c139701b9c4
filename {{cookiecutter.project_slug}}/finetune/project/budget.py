"""Limit what a job may cost: checked before the upload, and again before the job, whose epochs may have changed."""

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune.core.break_even import UNKNOWN
from finetune.core.disk import read_json
from finetune.core.errors import OverBudgetError
from finetune.core.params import Params
from finetune.core.paths import LEDGER, VALIDATION_REPORT
from finetune.core.records.checks import ValidationReport
from finetune.core.records.costs import CostEstimate, LedgerRow, Usd
from finetune.pricing.catalogue import look_up
from finetune.pricing.cost import auto_epochs, estimate
from finetune.pricing.end_dates import refuse_after_shutdown
from finetune.project import ledger
from finetune.project.spending import UNCLEAR, is_ours, project_names, settle, spending_lock, spent_by_job
from finetune.provider.connect import Connection

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


class Part(NamedTuple):
    """A part of the training data: its rows, and its tokens as a share of all."""

    rows: int | None
    tokens: float


WHOLE = Part(None, 1.0)


def estimated(params: Params, part: Part = WHOLE, n_epochs: int | None = None) -> CostEstimate:
    """Estimate the cost of this project's job, or of one on a part of its data, corrected by the earlier bills.

    `n_epochs` are the epochs that a job has taken; by default, those that it will take.
    """
    report: ValidationReport = read_json(VALIDATION_REPORT, "validate", ValidationReport)
    auto = report["auto"]["n_epochs"] if part.rows is None else auto_epochs(part.rows)
    n_epochs = n_epochs or (auto if params.train.n_epochs == "auto" else params.train.n_epochs)
    base = look_up(params.train.base, params.provider.name)
    ratio, seconds = ledger.learned(params.provider.name, params.train.base)
    tokens = round(report["train_tokens_per_epoch"] * part.tokens)
    return estimate([tokens], n_epochs, None, base.training, seconds or base.seconds, ratio)


def refuse_over_budget(params: Params, part: Part = WHOLE) -> None:
    """Raise OverBudgetError if the estimate is over train.budget, or is not known."""
    budget = params.train.budget
    if budget.usd is None and budget.minutes is None:
        return
    bill = estimated(params, part)
    seconds = bill["seconds"]
    for name, limit, takes in (
        ("usd", budget.usd, bill["train_usd"]),
        ("minutes", budget.minutes, seconds if isinstance(seconds, str) else round(seconds / 60, 1)),
    ):
        if limit is None:
            continue
        if isinstance(takes, str):
            raise unknown(params, name, limit)
        refuse_unclear_tokens(name, limit)
        if takes > limit:
            raise OverBudgetError(
                f"{bill['billed_tokens']:,} tokens in {bill['n_epochs']} epochs would take {takes:g} {name};"
                f" train.budget.{name} is {limit:g}. Nothing was sent.",
                "Raise the budget, lower train.n_epochs, or train on fewer examples.",
            )


def refuse_over_total(
    params: Params,
    parts: Sequence[Part] = (WHOLE,),
    connection: Connection | None = None,
    fingerprints: Collection[str] = (),
) -> None:
    """Raise OverBudgetError if jobs on these parts, with all jobs of the project, would exceed train.budget.total_usd.

    `fingerprints` are those of the jobs that are about to be created.
    """
    limit = params.train.budget.total_usd
    if limit is None:
        return
    takes = total_usd([estimated(params, part)["train_usd"] for part in parts])
    bills = spent_by_job(connection, params.provider.name, fingerprints)
    spent = total_usd(list(bills.values()))
    if isinstance(takes, str) or isinstance(spent, str):
        raise unknown(params, "total_usd", limit)
    refuse_unclear_tokens("total_usd", limit)
    if spent + takes > limit:
        raise OverBudgetError(
            f"This project has spent ${spent:g} on {len(bills)} job{'' if len(bills) == 1 else 's'} ({LEDGER} of all"
            f" commits; jobs without a bill by their estimate), and {which(len(parts))} would cost ${takes:g};"
            f" train.budget.total_usd is {limit:g}. Nothing was sent.",
            "Raise the budget, lower train.n_epochs, or train on fewer examples." + hint_at_unclear(bills),
        )


def hint_at_unclear(jobs: Collection[str]) -> str:
    """Return what to do if some of the jobs are requests of which it is not known whether they made one."""
    unclear = sum(job.startswith(UNCLEAR) for job in jobs)
    if not unclear:
        return ""
    which = "1 of them is a request" if unclear == 1 else f"{unclear} of them are requests"
    return f" {which} without a clear answer: if you know that no job came of it, run: finetune train --forget"


@contextmanager
def reserved(
    connection: Connection, params: Params, fingerprint: str, part: Part = WHOLE
) -> Iterator[Mapping[str, Any]]:
    """Allow a job, and give what the note on its request says of the money.

    The note is written in the block: until then, no other process of this user may decide. Raises FinetuneError if the
    provider creates no jobs any more, or the job is over train.budget.total_usd.
    """
    refuse_after_shutdown(params, datetime.date.today())
    with spending_lock():
        refuse_over_total(params, [part], connection, [fingerprint])
        yield {
            "project": project_names()[0],
            "provider": params.provider.name,
            "fingerprint": fingerprint,
            "usd": estimated(params, part)["train_usd"],
        }


def which(jobs: int) -> str:
    return "this one" if jobs == 1 else f"these {jobs}"


def total_usd(bills: Sequence[Usd]) -> Usd:
    """Return the sum of bills; UNKNOWN if one of them is."""
    known = [bill for bill in bills if not isinstance(bill, str)]
    return round(sum(known), 4) if len(known) == len(bills) else UNKNOWN


def price_to_ask(models: int) -> Usd:
    """Return what it costs at most to ask a number of fine-tuned models the test questions."""
    report: ValidationReport = read_json(VALIDATION_REPORT, "validate", ValidationReport)
    return total_usd([report["evaluate_usd_at_most"]["tuned"]] * models)


def refuse_unclear_tokens(name: str, limit: float) -> None:
    """Raise OverBudgetError if the training data have more tokens than were counted."""
    report: ValidationReport = read_json(VALIDATION_REPORT, "validate", ValidationReport)
    if report.get("tokens_at_least"):
        raise OverBudgetError(
            f"train.budget.{name} is {limit:g}, but the training data have at least"
            f" {report['train_tokens_per_epoch']:,} tokens: the size or price of some images is unknown. Nothing was"
            " sent.",
            'Give these images as data URLs or with "detail": "low", or remove the budget.',
        )


def unknown(params: Params, name: str, limit: float) -> OverBudgetError:
    """Return the error for a limit that cannot be checked."""
    missing, key = ("training time", "seconds") if name == "minutes" else ("price", "training")
    return OverBudgetError(
        f"train.budget.{name} is {limit:g}, but the {missing} of {params.train.base!r} is unknown. Nothing was sent.",
        f"Add {key!r} of this base to models.toml, or remove the budget.",
    )


def enter_bill(
    connection: Connection,
    params: Params,
    job: "FineTuningJob",
    fingerprint: str,
    usd: Usd,
    n_epochs: object = None,
    part: Part = WHOLE,
) -> None:
    """Note the bill of a job that has ended, and add the job to the ledger.

    A job that another project has created is in that project's ledger: each is paid once, and counted once.
    """
    settle(connection, fingerprint, usd)
    if is_ours(connection, job, fingerprint):
        ledger.add_job(ledger_row(params, job, usd, n_epochs, part))


def ledger_row(
    params: Params, job: "FineTuningJob", usd: Usd, n_epochs: object = None, part: Part = WHOLE
) -> LedgerRow:
    """Return the ledger's row for a job that has ended: what it took, and the estimate for the epochs that it took.

    `n_epochs` are those that the job reports; if it reports no number, it took those of the estimate. With `auto`, a
    provider may take others than were estimated: that is no error in the tokens of an epoch, and must not correct the
    next estimate.
    """
    bill = estimated(params, part, n_epochs if isinstance(n_epochs, int) else None)
    return {
        "job": job.id,
        "provider": params.provider.name,
        "base": params.train.base,
        "n_epochs": bill["n_epochs"],
        "counted_tokens": bill["tokens"] * bill["n_epochs"],
        "billed_tokens": UNKNOWN if job.trained_tokens is None else job.trained_tokens,
        "estimated_usd": bill["train_usd"],
        "billed_usd": usd,
        "estimated_seconds": bill["seconds"],
        "seconds": job.finished_at - job.created_at if job.finished_at and job.created_at else UNKNOWN,
    }
