"""Checks of parameters against what a provider offers, before anything is sent."""

import datetime
import re

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.profiles import PROFILES, Profile
from finetune.pricing.catalogue import look_up


def refuse_unsupported(params: Params) -> None:
    """Raise FinetuneError for a parameter that the provider would refuse or ignore."""
    train, profile = params.train, PROFILES[params.provider.name]
    base = look_up(train.base, profile.name)
    methods = base.methods or profile.methods
    if train.method not in profile.methods or train.method not in methods:
        raise unsupported(profile, f"train.method {train.method!r}", f"Supported methods: {', '.join(methods)}.")
    if train.suffix is not None and not re.fullmatch(profile.suffix, train.suffix):
        raise unsupported(
            profile, f"train.suffix {train.suffix!r}", f"It must match the regular expression {profile.suffix}."
        )
    if train.learning_rate_multiplier != "auto" and not profile.multiplier:
        raise unsupported(
            profile, "train.learning_rate_multiplier", "Set it to auto, and learning_rate in train.hyperparameters."
        )
    allowed = profile.hyperparameters
    for name in train.hyperparameters if allowed is not None else ():
        if name not in (allowed or ()):
            names = ", ".join(allowed or ("none",))
            raise unsupported(profile, f"train.hyperparameters.{name}", f"Supported hyperparameters: {names}.")
    if "auto" not in (train.learning_rate_multiplier, train.hyperparameters.get("learning_rate", "auto")):
        raise FinetuneError(
            "params.yaml sets both train.learning_rate_multiplier and learning_rate in train.hyperparameters."
            " Nothing was sent.",
            "Set one of them to auto.",
        )
    if train.training_type is not None and train.training_type not in profile.training_types:
        known = ", ".join(profile.training_types) or "none; set it to null"
        raise unsupported(profile, f"train.training_type {train.training_type!r}", f"Supported types: {known}.")
    if train.integrations and not profile.integrations:
        raise unsupported(profile, "train.integrations", "Remove them. After the training, use `finetune track`.")
    if train.choose == "best_metric" and profile.deploys:
        raise unsupported(
            profile, "train.choose best_metric", "Its checkpoints answer only after each of them is deployed."
        )


def unsupported(profile: Profile, parameter: str, remedy: str) -> FinetuneError:
    """Return the exception for a parameter that the provider does not support."""
    return FinetuneError(f"The provider {profile.name!r} does not support {parameter}. Nothing was sent.", remedy)


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


def shutdown_warning(params: Params, today: datetime.date) -> str | None:
    """Return a warning where the base will be shut down within `provider.warn_days`, else None."""
    base = look_up(params.train.base, params.provider.name)
    if base.shutdown is None or base.retired(today):
        return None
    days = (base.shutdown - today).days
    if days > params.provider.warn_days:
        return None
    return (
        f"warning: {base.name} and its fine-tunes will be shut down on {base.shutdown}, in {days} days."
        " Change provider.name to train on the same data elsewhere."
    )
