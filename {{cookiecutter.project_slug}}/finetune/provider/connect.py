"""A client for the provider that `params.yaml` names, for as long as a stage lasts."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.errors import FinetuneError
from finetune.params import Provider
from finetune.provider.profiles import PROFILES, Profile

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI


@dataclass(frozen=True)
class Connection:
    """An open line to a provider; `identity` names who answers, whatever port it answers on."""

    client: "OpenAI"
    profile: Profile
    identity: str


@contextmanager
def connect(provider: Provider) -> Iterator[Connection]:
    """The provider's client; the engine in the box is started for the block when it is `local` without an address.

    Inside the block, errors of the API that a user can mend become FinetuneError.
    """
    import openai

    profile = PROFILES[provider.name]
    base_url = provider.base_url or profile.base_url
    with ExitStack() as stack:
        if profile.name == "local" and base_url is None:
            base_url, key = stack.enter_context(start_engine())
            identity = "local"
        else:
            if base_url is None:
                raise FinetuneError(
                    f"provider.base_url in params.yaml is empty, and {profile.name!r} has no address of its own.",
                    "Set it to the server's address, such as https://host/v1.",
                )
            key = key_of(profile)
            identity = f"{profile.name} {base_url}"
        client = stack.enter_context(openai.OpenAI(base_url=base_url, api_key=key))
        try:
            yield Connection(client, profile, identity)
        except openai.APIConnectionError as error:
            raise FinetuneError(
                f"No answer from {base_url}: {error.__cause__ or error}",
                "Check the network and provider.base_url, then run the same command again: nothing is lost.",
            ) from error
        except openai.APIStatusError as error:
            raise explained(error, profile, base_url) from error


@contextmanager
def start_engine() -> Iterator[tuple[str, str]]:
    """The engine's address and key. Raises FinetuneError in a project that was generated without it."""
    try:
        from finetune.engine.embedded import embedded
    except ModuleNotFoundError as error:
        raise FinetuneError(
            f"provider.name is 'local', but the engine is not installed here ({error.name} is missing).",
            "Run `make setup`; in a project generated without the engine, set provider.base_url or another provider.",
        ) from error
    with embedded() as address:
        yield address.base_url, address.key


def key_of(profile: Profile) -> str:
    """The key from the environment, else from the nearest `.env` upwards (DVC's workspaces lie inside the project)."""
    from dotenv import dotenv_values, find_dotenv

    key = os.environ.get(profile.key_name) or dotenv_values(find_dotenv(usecwd=True)).get(profile.key_name)
    if not key:
        raise FinetuneError(
            f"There is no API key for the provider {profile.name!r}.",
            f"Set {profile.key_name} in the environment, or in a file .env (see .env.example).",
        )
    return key


def explained(error: "APIStatusError", profile: Profile, base_url: str) -> FinetuneError:
    """The provider's refusal in its own words, with what to do."""
    remedies = {
        "training_not_available": "The provider no longer trains for this account: change provider.name.",
        "insufficient_quota": "Add credit at the provider, then run the same command again.",
        "daily_rate_limit_exceeded": "Wait until tomorrow, then run the same command again.",
        "model_not_found": "Check train.base in params.yaml against the models that the provider offers.",
        "invalid_api_key": f"Check {profile.key_name}.",
    }
    remedy = remedies.get(error.code or "")
    if remedy is None and error.status_code == 401:
        remedy = f"Check {profile.key_name}."
    if remedy is None and error.status_code >= 500:
        remedy = "The provider has trouble: run the same command again later."
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return FinetuneError(
        f"{base_url} answered {error.status_code}: {message or type(error).__name__}",
        remedy or "Mend what it names, then run the same command again.",
    )
