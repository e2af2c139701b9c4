"""The days on which a provider or a base ends: what cannot be done any longer, and what ends soon."""

import datetime

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.profiles import PROFILES
from finetune.pricing.catalogue import look_up


def refuse_after_shutdown(params: Params, today: datetime.date) -> None:
    """Raise FinetuneError where the provider accepts no new jobs, or the base is shut down.

    Call it before something is created only: existing jobs and files are still found after that day.
    """
    profile = PROFILES[params.provider.name]
    base = look_up(params.train.base, profile.name)
    if profile.closes and today >= profile.closes:
        raise FinetuneError(
            f"{profile.name!r} accepts no new fine-tuning jobs since {profile.closes}. Nothing was sent.",
            "Change provider.name in params.yaml: `local` trains on this machine.",
        )
    if base.retired(today):
        raise FinetuneError(
            f"{base.name} was shut down on {base.shutdown}, and its fine-tunes with it. Nothing was sent.",
            "Choose another train.base, or another provider.",
        )


def date_warnings(params: Params, today: datetime.date) -> list[str]:
    """Return what has ended at the provider for this base, and what ends within `provider.warn_days`."""
    profile = PROFILES[params.provider.name]
    base = look_up(params.train.base, profile.name)
    last = today + datetime.timedelta(days=params.provider.warn_days)
    found = []
    if profile.closes and profile.closes <= today:
        found.append(f"{profile.name!r} accepts no new fine-tuning jobs since {profile.closes}.")
    elif profile.closes and profile.closes <= last:
        days = (profile.closes - today).days
        found.append(f"{profile.name!r} accepts no new fine-tuning jobs from {profile.closes}, in {days} days.")
    if base.training_until and base.training_until <= today:
        found.append(
            f"{profile.name!r} may have ended the training of {base.name}: it announced this for no earlier than"
            f" {base.training_until}."
        )
    elif base.training_until and base.training_until <= last:
        days = (base.training_until - today).days
        found.append(f"Training of {base.name} ends no earlier than {base.training_until}, in {days} days.")
    if base.retired(today):
        found.append(f"{base.name} was shut down on {base.shutdown}, and its fine-tunes with it.")
    elif base.shutdown and base.shutdown <= last:
        days = (base.shutdown - today).days
        found.append(f"{base.name} and its fine-tunes will be shut down on {base.shutdown}, in {days} days.")
    return found


def newcomers_warning(params: Params, today: datetime.date) -> str | None:
    """Return a warning where only those who have trained before can create a job, else None."""
    profile = PROFILES[params.provider.name]
    base = look_up(params.train.base, profile.name)
    if (profile.closes and profile.closes <= today) or base.retired(today):
        return None  # nobody can
    if profile.newcomers_until and profile.newcomers_until <= today:
        return f"Since {profile.newcomers_until}, {profile.name!r} takes jobs only from accounts that had some before."
    if base.newcomers_until and base.newcomers_until <= today:
        since = base.newcomers_until
        return f"Since {since}, {profile.name!r} trains {base.name} only for accounts that trained it before."
    return None
