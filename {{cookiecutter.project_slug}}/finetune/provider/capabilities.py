"""Checks of parameters against what a provider offers, before anything is sent."""

import re

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.profiles import PROFILES, Profile
from finetune.pricing.catalogue import look_up


def refuse_method(params: Params) -> None:
    """Raise FinetuneError for a method that the provider does not train, or not with this base."""
    train, profile = params.train, PROFILES[params.provider.name]
    own = look_up(train.base, profile.name).methods or profile.methods
    methods = [method for method in profile.methods if method in own]
    if train.method not in methods:
        raise unsupported(profile, f"train.method {train.method!r}", f"Supported methods: {', '.join(methods)}.")


def refuse_unsupported(params: Params) -> None:
    """Raise FinetuneError for a parameter that the provider would refuse or ignore."""
    refuse_method(params)
    train, profile = params.train, PROFILES[params.provider.name]
    base = look_up(train.base, profile.name)
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
    types = base.training_types or profile.training_types
    if base.training_types and train.training_type is None:
        what = f"{base.name} without train.training_type"
        raise unsupported(profile, what, f"Set it to one of: {', '.join(types)}.")
    if train.training_type is not None and train.training_type not in types:
        known = ", ".join(types) or "none; set it to null"
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
