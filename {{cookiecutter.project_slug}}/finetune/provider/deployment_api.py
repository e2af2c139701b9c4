"""Deployments of fine-tuned models at Azure and Nebius, where a model answers only after it is deployed."""

import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.core.params import Deploy
from finetune.core.profiles import Profile
from finetune.pricing.catalogue import inference_name
from finetune.provider.answer_types import AZURE_DEPLOYMENT, NEBIUS_MODEL
from finetune.provider.connect import Connection
from finetune.provider.paging import all_rows
from finetune.provider.polling import TemporaryError, poll
from finetune.provider.type_checks import Kind, check_fields

AZURE_VERSION = "2024-10-01"
PATIENCE = 3600  # seconds until a deployment must be ready
POLL_SECONDS = (2.0, 10.0)  # first and longest pause between two looks
READY = ("succeeded", "active")
FAILED = ("failed", "canceled", "error", "deleted")

Json = dict[str, Any]  # a body of Azure's or Nebius' API


class NotThereError(FinetuneError):
    """The provider has no deployment of this name."""


def deployment_name(model: str, wanted: str | None) -> str:
    """Return the deployment's name: `wanted`, else the model's name without the characters that names may not have."""
    return wanted or "".join(letter if letter.isalnum() else "-" for letter in model)[-60:].strip("-")


def source_of(connection: Connection, model: str, job: str, step: int | None) -> str:
    """Return what the provider deploys: Azure a model's name or a checkpoint's ID, Nebius `<job>:<checkpoint>`.

    Raises FinetuneError if the job has no such checkpoint. Source: Microsoft's page on deploying a fine-tuned model.
    """
    if connection.profile.name == "nebius":
        return f"{job}:{checkpoint_id(connection, job, model, step)}"
    return checkpoint_id(connection, job, model, step) if ":ckpt-step-" in model else model


def start(connection: Connection, base: str, model: str, source: str, settings: Deploy) -> str:
    """Ask for a deployment of a model, whose source is that of `source_of`, and return the deployment's name.

    At Azure, a deployment of this name is changed to this model. Nebius makes another one, and names it itself.
    """
    name = deployment_name(model, settings.name)
    if connection.profile.name == "azure":
        return start_at_azure(name, source, settings)
    if connection.profile.name == "nebius":
        return start_at_nebius(connection, name, base, model, source)
    raise no_deployments(connection)


def wait_until_ready(connection: Connection, name: str, model: str, settings: Deploy, say: Say) -> None:
    """Wait until a deployment answers.

    Raises FinetuneError when it fails, or is not ready after PATIENCE seconds.
    """
    deadline = time.monotonic() + PATIENCE

    def look() -> str:
        if time.monotonic() > deadline:
            raise FinetuneError(f"The deployment {name} is not ready after an hour.", "Run the same command again.")
        return status_of(connection, name, settings)

    state = poll(
        "requested",
        look,
        lambda state: state.lower() in READY + FAILED,
        lambda state: f"Deployment {name} ({state})",
        lambda state: say(f"deploy: {state}"),
        say,
        POLL_SECONDS,
    )
    if state.lower() in FAILED:
        reason = reason_of(connection, name)
        raise FinetuneError(
            f"The deployment {name} of {model} ended as {state!r}{f': {reason}' if reason else ''}.",
            "Correct what the reason names." if reason else "See the reason in the provider's console.",
        )


def status_of(connection: Connection, name: str, settings: Deploy) -> str:
    """Return the provider's word for the state of a deployment. Raises FinetuneError if there is none of this name."""
    if connection.profile.name == "azure":
        properties = call_azure("GET", name, settings).get("properties") or {}
        return str(properties.get("provisioningState") or "unknown")
    return str(call_nebius(connection, "GET", f"/{quote(name, safe='/:')}").get("status") or "unknown")


def reason_of(connection: Connection, name: str) -> str:
    """Return why a deployment failed, where the provider says it: Nebius, by `status_reason`."""
    found = None
    if connection.profile.name == "nebius":
        with suppress(FinetuneError):  # that it failed is known without this answer
            found = call_nebius(connection, "GET", f"/{quote(name, safe='/:')}").get("status_reason")
    return str(found or "").strip().rstrip(".")


def is_there(connection: Connection, name: str, settings: Deploy) -> bool:
    """Return whether a deployment has the model that it was made with, so that it need not be asked for again.

    At Azure, that is not known: a deployment can be changed to another model.
    """
    if connection.profile.name == "azure":
        return False
    try:
        return status_of(connection, name, settings).lower() not in FAILED
    except NotThereError:
        return False


def remove(connection: Connection, name: str, settings: Deploy) -> None:
    """Delete a deployment, so that it costs nothing more; the model stays."""
    if connection.profile.name == "azure":
        call_azure("DELETE", name, settings)
    elif connection.profile.name == "nebius":
        call_nebius(connection, "DELETE", f"/{quote(name, safe='/:')}")
    else:
        raise no_deployments(connection)


def no_deployments(connection: Connection) -> FinetuneError:
    """Return the error for a provider whose deployment API is not known here."""
    return FinetuneError(
        f"Deployments at {connection.profile.name!r} are not supported.", "Deploy the model in the provider's console."
    )


def deployed_model(profile: Profile, name: str, settings: Deploy) -> dict[str, str]:
    """Return the `name`, `version` and `state` of a deployment's model; {} where the provider does not say it.

    Source: Microsoft's page on Deployments - Get, api-version 2024-10-01. The call costs nothing, and needs a token of
    the resource manager. Raises NotThereError without this deployment, and FinetuneError where the call is refused.
    """
    if profile.name != "azure" or not (settings.subscription and settings.resource_group and settings.account):
        return {}
    properties = call_azure("GET", quote(name, safe=""), settings).get("properties") or {}
    model = properties.get("model") or {}
    if not model.get("name"):
        return {}
    state = properties.get("provisioningState") or "unknown"
    return {"name": model["name"], "version": model.get("version") or "", "state": state}


def start_at_azure(name: str, source: str, settings: Deploy) -> str:
    """Create or change a deployment by Azure's control plane. Source: Microsoft's page on deploying, 2026-10."""
    body = {
        "sku": {"name": settings.sku, "capacity": settings.capacity},
        "properties": {"model": {"format": "OpenAI", "name": source, "version": "1"}},
    }
    call_azure("PUT", name, settings, body)
    return name


def start_at_nebius(connection: Connection, name: str, base: str, model: str, source: str) -> str:
    """Create a custom model at Nebius. Source: the notebooks of its cookbook (fine-tuning-1, distillation), 2026-08.

    It answers by the name that the answer has, which is another one. `base_model` is the base's name for inference.
    """
    body = {"name": name, "base_model": inference_name(base, connection.profile.name), "source": source}
    answered = call_nebius(connection, "POST", "", body).get("name")
    if not answered:
        raise FinetuneError(
            f"The answer to the deployment of {model} has no name to ask it by.",
            "See in the provider's console whether it was created, and delete it there before another try.",
        )
    return str(answered)


def checkpoint_id(connection: Connection, job: str, model: str, step: int | None) -> str:
    """Return the ID of the checkpoint of a job that is a model, or that was saved at a step."""
    checkpoints = all_rows(connection.control.fine_tuning.jobs.checkpoints.list(job))
    for one in checkpoints:
        if one.fine_tuned_model_checkpoint == model:
            return one.id
    for one in checkpoints:
        if one.step_number == step:
            return one.id
    steps = ", ".join(str(one.step_number) for one in checkpoints) or "none"
    raise FinetuneError(
        f"Job {job} has no checkpoint {model} or of step {step}; it has those of the steps: {steps}.",
        "Choose another one with train.choose, then: dvc repro",
    )


def call_azure(method: str, name: str, settings: Deploy, body: Json | None = None) -> Json:
    """Call Azure's resource manager. It takes a token of the logged-in user, not the resource's key."""
    missing = [key for key in ("subscription", "resource_group", "account") if not getattr(settings, key)]
    if missing:
        raise FinetuneError(
            f"provider.deploy in params.yaml lacks {', '.join(missing)}.",
            "Copy the values from the resource's page in Azure's portal.",
        )
    address = (
        f"{settings.address}/subscriptions/{settings.subscription}/resourceGroups/{settings.resource_group}"
        f"/providers/Microsoft.CognitiveServices/accounts/{settings.account}/deployments/{name}"
        f"?api-version={AZURE_VERSION}"
    )
    return call(method, address, azure_token(), body, AZURE_DEPLOYMENT)


def call_nebius(connection: Connection, method: str, path: str, body: Json | None = None) -> Json:
    """Call Nebius' route for custom models."""
    root = str(connection.client.base_url).rstrip("/").removesuffix("/v1")
    return call(method, f"{root}/v0/models{path}", connection.client.api_key, body, NEBIUS_MODEL)


def azure_token() -> str:
    """Return the token from AZURE_ARM_TOKEN, else that of the user who is logged in with Azure's command."""
    token = os.environ.get("AZURE_ARM_TOKEN")
    if token:
        return token
    az = shutil.which("az") or "az"  # on Windows, a command that only its whole path starts
    command = [az, "account", "get-access-token", "--query", "accessToken", "--output", "tsv"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise FinetuneError(
            "There is no token for Azure's resource manager; the resource's key cannot deploy.",
            "Run `az login`, or set AZURE_ARM_TOKEN. The role must allow .../deployments/write.",
        ) from error


def call(method: str, address: str, token: str, body: Json | None, kind: Kind) -> Json:
    """Return the JSON of the answer, whose fields are checked; an empty object where there is none.

    Raises TemporaryError without an answer, for 429 and 5xx, and for a success that is no object, NotThereError for
    404, WrongAnswerError as `check_fields`, and FinetuneError for other refusals, with the server's message.
    """
    import httpx2

    try:
        answer = httpx2.request(method, address, json=body, headers={"authorization": f"Bearer {token}"}, timeout=60)
    except httpx2.HTTPError as error:
        raise TemporaryError(
            f"No answer from {address}: {error}", "Check the network, then run the same command again."
        ) from error
    try:
        content = answer.json() if answer.content else {}
    except (ValueError, RecursionError):
        content = None
    if answer.is_success and not isinstance(content, dict):
        raise TemporaryError(
            f"{address.split('?')[0]} answered {answer.status_code} with something that is no JSON object.",
            "Check the network, then run the same command again. See the deployments in the provider's console.",
        )
    content = content if isinstance(content, dict) else {}
    if not answer.is_success and not (method == "DELETE" and answer.status_code == 404):
        error_type: type[FinetuneError] = NotThereError if answer.status_code == 404 else FinetuneError
        if answer.status_code == 429 or answer.status_code >= 500:
            error_type = TemporaryError
        problem = content.get("error") or content.get("detail") or answer.reason_phrase
        message = problem.get("message") if isinstance(problem, dict) else json.dumps(problem)
        raise error_type(
            f"{address.split('?')[0]} answered {answer.status_code}: {str(message).replace(token, '***')}",
            "Correct what the message names, then run the same command again.",
        )
    check_fields(content, content, kind)
    return content
