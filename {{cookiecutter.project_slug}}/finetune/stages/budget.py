"""What a job may cost: looked at before the upload, and again before the job, whose epochs may have changed since."""

from finetune.data.cost import START_SECONDS, UNKNOWN, dollars
from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import VALIDATION_REPORT
from finetune.provider.catalogue import look_up
from finetune.record import read_json


def refuse_over_budget(params: Params) -> None:
    """Raises FinetuneError when the estimate for train.n_epochs is over train.budget, or is not known."""
    budget = params.train.budget
    if budget.usd is None and budget.minutes is None:
        return
    report = read_json(VALIDATION_REPORT, "validate")
    n_epochs = report["auto"]["n_epochs"] if params.train.n_epochs == "auto" else params.train.n_epochs
    billed = report["train_tokens_per_epoch"] * n_epochs
    base = look_up(params.train.base, params.provider.name)
    minutes = UNKNOWN if base.seconds is None else round((START_SECONDS + billed * base.seconds / 1e6) / 60, 1)
    for name, limit, estimate in (
        ("usd", budget.usd, dollars(billed, base.training)),
        ("minutes", budget.minutes, minutes),
    ):
        if limit is None:
            continue
        if isinstance(estimate, str):
            raise FinetuneError(
                f"train.budget.{name} is {limit:g}, but what {base.name!r} takes is unknown. Nothing was sent.",
                "Enter it in models.toml, or remove the budget.",
            )
        if estimate > limit:
            raise FinetuneError(
                f"{billed:,} tokens in {n_epochs} epochs would take {estimate:g} {name}; train.budget.{name} allows"
                f" {limit:g}. Nothing was sent.",
                "Raise the budget, lower train.n_epochs, or train on fewer examples.",
            )
