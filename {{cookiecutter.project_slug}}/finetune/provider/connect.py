"""A client for the provider that `params.yaml` names, for as long as a stage lasts."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.core.errors import FinetuneError
from finetune.core.params import Provider
from finetune.core.profiles import PROFILES, Profile

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

PATIENCE = 60  # seconds for an answer about files and jobs; a model's answers may take longer
# Refusals that come as 429 like a passing rush of requests does, and will be the same at the next try.
FINAL = ("insufficient_quota", "daily_rate_limit_exceeded", "billing_hard_limit_reached", "exceeded_quota")


@dataclass(frozen=True)
class Connection:
    """An open line to a provider; `identity` names who answers, whatever port it answers on."""

    client: "OpenAI"
    profile: Profile
    identity: str

    @property
    def control(self) -> "OpenAI":
        """The client for files and jobs, which loses patience sooner."""
        return self.client.with_options(timeout=PATIENCE)

    @property
    def once(self) -> "OpenAI":
        """The client for what must not be sent twice: the SDK's own retry repeats a POST without saying so."""
        return self.client.with_options(timeout=PATIENCE, max_retries=0)


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
        http = openai.DefaultHttpxClient(event_hooks={"response": [look_at_answer]})
        client = stack.enter_context(openai.OpenAI(base_url=base_url, api_key=key, http_client=http))
        with mendable_errors(client, profile):
            yield Connection(client, profile, identity)


@contextmanager
def mendable_errors(client: "OpenAI", profile: Profile) -> Iterator[None]:
    """Inside the block, errors of the API that a user can mend become FinetuneError."""
    import openai

    base_url = str(client.base_url).rstrip("/")
    try:
        yield
    except openai.APIConnectionError as error:
        raise FinetuneError(
            f"No answer from {base_url}: {error.__cause__ or error}.",
            "Check the network and provider.base_url, then run the same command again: nothing is lost.",
        ) from error
    except openai.APIStatusError as error:
        found = explained(error, profile, base_url)
        # Some servers repeat the key that they refuse.
        raise FinetuneError(found.what.replace(client.api_key, "***"), found.remedy) from error


def look_at_answer(response: Any) -> None:
    """Keep the SDK from two mistakes: trying again what cannot succeed, and taking a gateway's page for an answer.

    Raises httpx2.RemoteProtocolError for a success that is not JSON: no answer came, and what was asked may have been
    done or not.
    """
    import httpx2

    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return
    response.read()
    if response.status_code == 429 and error_of(response).get("code") in FINAL:
        response.headers["x-should-retry"] = "false"
    if response.is_success:
        page = response.headers.get("content-type", "").startswith("text/html")
        if page or not (response.request.url.path.endswith("/content") or is_json(response.content)):
            raise httpx2.RemoteProtocolError(
                f"{response.request.method} {response.request.url.path} was answered with"
                f" {'a web page' if page else 'broken JSON'}",
                request=response.request,
            )


def is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def error_of(response: Any) -> dict[str, Any]:
    """The `error` object of an answer; an empty one where there is none."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


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
    again = "then run the same command again."
    remedies = {
        "training_not_available": "The provider no longer trains for this account: change provider.name.",
        "insufficient_quota": f"Add credit at the provider, {again}",
        "billing_hard_limit_reached": f"Raise the spending limit at the provider, {again}",
        "daily_rate_limit_exceeded": f"Wait until tomorrow, {again}",
        "model_not_found": "Check train.base in params.yaml against: finetune models list",
        "invalid_api_key": f"Check {profile.key_name}, {again}",
    }
    by_status = {
        401: f"Check {profile.key_name}, {again}",
        403: f"Ask for the right at the provider, or change {profile.key_name}, {again}",
        404: "Check provider.base_url, and whether what it names was deleted; `finetune doctor` looks.",
        429: f"Wait a minute, {again}",
    }
    body = error.body if isinstance(error.body, dict) else {}
    remedy = remedies.get(error.code or "") or by_status.get(error.status_code)
    if remedy is None and error.status_code >= 500:
        remedy = "The provider has trouble: run the same command again later. Nothing is lost."
    said = body.get("message") or type(error).__name__
    return FinetuneError(f"{base_url} answered {error.status_code}: {said}", remedy or f"Mend what it names, {again}")
