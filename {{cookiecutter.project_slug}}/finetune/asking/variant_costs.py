"""What variants cost, and the limits that they may not exceed."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from finetune.asking.variants import Variant
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.profiles import PROFILES
from finetune.core.records.costs import Usd
from finetune.project.budget import estimated, price_to_ask, refuse_over_budget, refuse_over_total, total_usd
from finetune.provider.connect import Connection


class Bill(NamedTuple):
    """What is still to be done, and what it costs."""

    trainings: int
    found: int  # trainings that exist already
    tokens: int
    train_usd: Usd
    seconds: float | str
    asked: int  # models that are asked the test questions
    ask_usd: Usd  # at most


Confirm = Callable[[Bill], None]  # may raise


def refuse_deployments(params: Params, count: int) -> None:
    """Raise FinetuneError if the models of variants answer only after each of them is deployed."""
    profile = PROFILES[params.provider.name]
    if profile.deploys:
        raise FinetuneError(
            f"At {profile.name!r}, each of {count} models would have to be deployed to be asked. Nothing was sent.",
            f"A deployment costs {profile.deploys}. Use a provider whose models answer at once, such as local.",
        )


def refuse_over_budgets(params: Params, new: Sequence[Variant], connection: Connection) -> None:
    """Raise FinetuneError if a new job exceeds a limit of train.budget, or all of them together."""
    for variant in new:
        refuse_over_budget(params, variant.part)
    if new:
        fingerprints = [variant.fingerprint for variant in new]
        refuse_over_total(params, [variant.part for variant in new], connection, fingerprints)


def bill_for(params: Params, new: Sequence[Variant], left: Sequence[Variant]) -> Bill:
    """Return what the new trainings cost, and the answers of all that are not complete."""
    costs = [estimated(params, variant.part) for variant in new]
    seconds = [cost["seconds"] for cost in costs if not isinstance(cost["seconds"], str)]
    return Bill(
        trainings=len(new),
        found=len(left) - len(new),
        tokens=sum(cost["billed_tokens"] for cost in costs),
        train_usd=total_usd([cost["train_usd"] for cost in costs]),
        seconds=sum(seconds) if len(seconds) == len(costs) else "unknown",
        asked=len(left),
        ask_usd=price_to_ask(len(left)),
    )
