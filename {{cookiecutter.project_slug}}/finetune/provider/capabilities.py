"""What a provider does not do, said before anything is sent to it."""

import datetime
import re

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.profiles import PROFILES, Profile
from finetune.pricing.catalogue import look_up


def refuse_unfit(params: Params) -> None:
    """Raises FinetuneError naming the parameter that the provider would refuse, or pass over in silence."""
    train, profile = params.train, PROFILES[params.provider.name]
    base = look_up(train.base, profile.name)
    methods = base.methods or profile.methods
    if train.method not in profile.methods or train.method not in methods:
        raise no_such(profile, f"train.method {train.method!r}", f"It trains {base.name} by {' or '.join(methods)}.")
    if train.suffix is not None and not re.fullmatch(profile.suffix, train.suffix):
        raise no_such(profile, f"train.suffix {train.suffix!r}", f"It must match {profile.suffix}.")
    if train.learning_rate_multiplier != "auto" and not profile.multiplier:
        raise no_such(
            profile, "train.learning_rate_multiplier", "Set it to auto, and learning_rate in train.hyperparameters."
        )
    allowed = profile.hyperparameters
    for name in train.hyperparameters if allowed is not None else ():
        if name not in (allowed or ()):
            raise no_such(profile, f"train.hyperparameters.{name}", f"It takes {', '.join(allowed or ('none',))}.")
    if train.training_type is not None and train.training_type not in profile.training_types:
        known = ", ".join(profile.training_types) or "none: set it to null"
        raise no_such(profile, f"train.training_type {train.training_type!r}", f"It knows {known}.")
    if train.integrations and not profile.integrations:
        raise no_such(profile, "train.integrations", "Remove them; `finetune track` sends a finished fine-tune.")
    if train.choose == "best_metric" and profile.deploys:
        raise no_such(
            profile, "train.choose best_metric", "Its checkpoints answer only when deployed, each for itself."
        )


def no_such(profile: Profile, what: str, instead: str) -> FinetuneError:
    return FinetuneError(f"The provider {profile.name!r} does not take {what}. Nothing was sent.", instead)


def refuse_too_late(params: Params, today: datetime.date) -> None:
    """Raises FinetuneError where a new job would be refused, or its model be dark: what exists is still found."""
    profile = PROFILES[params.provider.name]
    base = look_up(params.train.base, profile.name)
    elsewhere = "Change provider.name in params.yaml: `local` trains on this machine."
    if profile.closes and today >= profile.closes:
        raise FinetuneError(
            f"{profile.name!r} takes no new fine-tuning jobs since {profile.closes}. Nothing was sent.", elsewhere
        )
    if base.retired(today):
        raise FinetuneError(
            f"{base.name} was shut down on {base.shutdown}, and its fine-tunes with it. Nothing was sent.",
            "Choose another train.base, or another provider.",
        )


def warning_of_shutdown(params: Params, today: datetime.date) -> str | None:
    """A sentence when the base's fine-tunes will go dark within `provider.warn_days`."""
    base = look_up(params.train.base, params.provider.name)
    if base.shutdown is None or base.retired(today):
        return None
    left = (base.shutdown - today).days
    if left > params.provider.warn_days:
        return None
    return (
        f"warning: {base.name} and its fine-tunes go dark on {base.shutdown}, in {left} days; the same data train"
        " elsewhere when provider.name is changed."
    )
