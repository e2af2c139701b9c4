"""Error messages for what the API refuses: what happened, where, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from finetune.core.errors import FinetuneError
from finetune.core.profiles import Profile
from finetune.provider.answer_checks import HELD

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

TUNED = re.compile(r"\bft:")  # begins the name of a fine-tuned model


@contextmanager
def explained_errors(client: "OpenAI", profile: Profile) -> Iterator[None]:
    """Turn the API's errors in the block into FinetuneError, without the key."""
    import openai

    base_url = str(client.base_url).rstrip("/")
    try:
        yield
    except openai.APIConnectionError as error:
        reason = masked(client, str(error.__cause__ or error)).rstrip(".")
        raise FinetuneError(
            f"No answer from {base_url}: {reason}.",
            "Check the network and provider.base_url, then run the same command again: nothing is lost.",
        ) from error
    except openai.APIStatusError as error:
        explanation = explain(error, profile, base_url)
        raise FinetuneError(masked(client, explanation.what), explanation.remedy) from error


def masked(client: "OpenAI", text: str) -> str:
    """Return a text of the server without the key, which some servers repeat."""
    return text.replace(client.api_key, "***") if client.api_key else text


def explain(error: "APIStatusError", profile: Profile, base_url: str) -> FinetuneError:
    """Return the exception for a refusal: the provider's message, and what to do."""
    again = "then run the same command again."
    by_code = {
        "training_not_available": "The provider no longer trains for this account: change provider.name.",
        "insufficient_quota": f"Add credit at the provider, {again}",
        "billing_hard_limit_reached": f"Raise the spending limit at the provider, {again}",
        "daily_rate_limit_exceeded": f"Wait until tomorrow, {again}",
        "model_not_found": "Compare the model's name (train.base, judge.model or --model) with: finetune models list",
        "invalid_api_key": f"Check {profile.key_name}, {again}",
        "DeploymentNotFound": (
            f"Deploy with: finetune deploy (for the base: provider.base_deployment). Wait some minutes, {again}"
        ),
    }
    by_status = {
        401: f"Check {profile.key_name}, {again}",
        403: f"Ask the provider for the permission, or change {profile.key_name}, {again}",
        404: "Check provider.base_url with `finetune doctor`, and whether the file or model was deleted.",
        429: f"Wait a minute, {again}",
    }
    message = error_message(error)
    if profile.name == "local" and TUNED.search(message):
        by_code["model_not_found"] += ". A fine-tune of another machine is trained on this one by: finetune train"
    if profile.name == "azure":
        by_status[404] = (
            "Compare provider.base_url with https://<resource>.openai.azure.com/openai/v1/, which has no deployment"
            " and no api-version. If it is right, the file or model was deleted."
        )
    remedy = by_code.get(error.code or "") or by_status.get(error.status_code)
    if target := error.response.headers.get(HELD):
        what = f"{base_url} answered {error.status_code}: go to {target}. This was not followed."
        return FinetuneError(what, f"If the provider documents that address, set provider.base_url to it, {again}")
    if remedy is None and error.status_code >= 500:
        remedy = "The provider has a fault: run the same command again later. Nothing is lost."
    return FinetuneError(
        f"{base_url} answered {error.status_code}: {message}", remedy or f"Correct what the message names, {again}"
    )


def error_message(error: "APIStatusError") -> str:
    """Return the provider's message, or the name of the error where it gives none."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return str(message or type(error).__name__)
