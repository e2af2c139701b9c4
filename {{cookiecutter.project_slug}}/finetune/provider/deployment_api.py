"""Deployments of fine-tuned models at Azure and Nebius, where a model answers only after it is deployed."""

import time
from contextlib import suppress

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.core.sections.provider import Deploy
from finetune.provider.azure_deployments import call_azure, start_at_azure
from finetune.provider.connect import Connection
from finetune.provider.deployment_call import NotThereError
from finetune.provider.nebius_deployments import call_nebius, checkpoint_id, start_at_nebius
from finetune.provider.polling import poll

PATIENCE = 3600  # seconds until a deployment must be ready
POLL_SECONDS = (2.0, 10.0)  # first and longest pause between two looks
READY = ("succeeded", "active")
FAILED = ("failed", "canceled", "error", "deleted")


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
    return str(call_nebius(connection, "GET", name).get("status") or "unknown")


def reason_of(connection: Connection, name: str) -> str:
    """Return why a deployment failed, where the provider says it: Nebius, by `status_reason`."""
    found = None
    if connection.profile.name == "nebius":
        with suppress(FinetuneError):  # that it failed is known without this answer
            found = call_nebius(connection, "GET", name).get("status_reason")
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
        call_nebius(connection, "DELETE", name)
    else:
        raise no_deployments(connection)


def no_deployments(connection: Connection) -> FinetuneError:
    """Return the error for a provider whose deployment API is not known here."""
    return FinetuneError(
        f"Deployments at {connection.profile.name!r} are not supported.", "Deploy the model in the provider's console."
    )
