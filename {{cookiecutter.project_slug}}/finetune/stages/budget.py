"""What a job may cost: looked at before the upload, and again before the job, whose epochs may have changed since."""

from finetune.data.cost import estimate
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
    base = look_up(params.train.base, params.provider.name)
    bill = estimate([report["train_tokens_per_epoch"]], n_epochs, None, base.training, base.seconds)
    seconds = bill["seconds"]
    for name, limit, takes in (
        ("usd", budget.usd, bill["train_usd"]),
        ("minutes", budget.minutes, seconds if isinstance(seconds, str) else round(seconds / 60, 1)),
    ):
        if limit is None:
            continue
        if isinstance(takes, str):
            raise FinetuneError(
                f"train.budget.{name} is {limit:g}, but what {base.name!r} takes is unknown. Nothing was sent.",
                "Enter it in models.toml, or remove the budget.",
            )
        if takes > limit:
            raise FinetuneError(
                f"{bill['billed_tokens']:,} tokens in {n_epochs} epochs would take {takes:g} {name};"
                f" train.budget.{name} allows {limit:g}. Nothing was sent.",
                "Raise the budget, lower train.n_epochs, or train on fewer examples.",
            )
