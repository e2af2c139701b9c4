"""Make a fine-tuned model answer where training alone does not: at Azure and at Nebius, each in its own way."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.params import Deploy
from finetune.provider.connect import Connection

AZURE_VERSION = "2024-10-01"
PATIENCE = 3600  # seconds until a deployment must be there
PAUSE = 10  # seconds between two looks


def name_of(model: str, wanted: str | None) -> str:
    """The deployment's name: as wanted, else the model's with what names may not have left out."""
    return wanted or "".join(letter if letter.isalnum() else "-" for letter in model)[-60:].strip("-")


def deploy(connection: Connection, base: str, model: str, job: str, where: Deploy, say: Callable[[str], None]) -> str:
    """Deploy a model, wait until it answers, and give the name to ask for it by.

    A deployment of that name that is there already is brought to this model. Raises FinetuneError when it fails.
    """
    name = name_of(model, where.name)
    start, look = (
        at_azure(name, model, where)
        if connection.profile.name == "azure"
        else at_nebius(connection, name, base, model, job)
    )
    start()
    end = time.monotonic() + PATIENCE
    seen = ""
    while (state := look()).lower() not in ("succeeded", "active"):
        if state.lower() in ("failed", "canceled", "error", "deleted"):
            raise FinetuneError(
                f"The deployment {name} of {model} ended as {state!r}.",
                "Look for the reason in the provider's console.",
            )
        if time.monotonic() > end:
            raise FinetuneError(f"The deployment {name} is still {state!r} after an hour.", "Run the command again.")
        if state != seen:
            say(f"deploy: {state}")
            seen = state
        time.sleep(PAUSE)
    return name


def remove(connection: Connection, name: str, where: Deploy) -> None:
    """Take a deployment away, so that it costs nothing more; the model stays."""
    if connection.profile.name == "azure":
        call_azure("DELETE", name, where)
    else:
        call_nebius(connection, "DELETE", f"/{name}")


Steps = tuple[Callable[[], Any], Callable[[], str]]


def at_azure(name: str, model: str, where: Deploy) -> Steps:
    """Azure's control plane. Source: Microsoft's page on deploying fine-tuned models, 2026-10."""
    body = {
        "sku": {"name": where.sku, "capacity": where.capacity},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }

    def state() -> str:
        return str(call_azure("GET", name, where).get("properties", {}).get("provisioningState", "unknown"))

    return lambda: call_azure("PUT", name, where, body), state


def at_nebius(connection: Connection, name: str, base: str, model: str, job: str) -> Steps:
    """Nebius' route for models of one's own. Source: its API pages and its notebook on distillation, 2026-08."""
    body = {"name": name, "base_model": base, "source": f"{job}:{model}"}

    def state() -> str:
        return str(call_nebius(connection, "GET", f"/{name}").get("status", "unknown"))

    return lambda: call_nebius(connection, "POST", "", body), state


def call_azure(method: str, name: str, where: Deploy, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A call of the resource manager, which wants a token of its own and not the resource's key."""
    missing = [key for key in ("subscription", "resource_group", "account") if not getattr(where, key)]
    if missing:
        raise FinetuneError(
            f"provider.deploy in params.yaml lacks {', '.join(missing)}.",
            "They are on the resource's page in Azure's portal.",
        )
    address = (
        f"{where.address}/subscriptions/{where.subscription}/resourceGroups/{where.resource_group}"
        f"/providers/Microsoft.CognitiveServices/accounts/{where.account}/deployments/{name}?api-version={AZURE_VERSION}"
    )
    return call(method, address, azure_token(), body)


def call_nebius(connection: Connection, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    root = str(connection.client.base_url).rstrip("/").removesuffix("/v1")
    return call(method, f"{root}/v0/models{path}", connection.client.api_key, body)


def azure_token() -> str:
    """From AZURE_ARM_TOKEN, else of whoever is logged in with Azure's own command."""
    token = os.environ.get("AZURE_ARM_TOKEN")
    if token:
        return token
    command = ["az", "account", "get-access-token", "--query", "accessToken", "--output", "tsv"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise FinetuneError(
            "There is no token for Azure's resource manager: a resource's key does not deploy.",
            "Run `az login`, or set AZURE_ARM_TOKEN; the role must allow .../deployments/write.",
        ) from error


def call(method: str, address: str, token: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """The answer's JSON; an empty one where there is none. Raises FinetuneError with the server's words."""
    import httpx2

    try:
        answer = httpx2.request(method, address, json=body, headers={"authorization": f"Bearer {token}"}, timeout=60)
    except httpx2.HTTPError as error:
        raise FinetuneError(f"No answer from {address}: {error}", "Check the network, then run it again.") from error
    try:
        said = answer.json() if answer.content else {}
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    if answer.is_error and not (method == "DELETE" and answer.status_code == 404):
        problem = said.get("error") or said.get("detail") or answer.reason_phrase
        told = problem.get("message") if isinstance(problem, dict) else json.dumps(problem)
        raise FinetuneError(
            f"{address.split('?')[0]} answered {answer.status_code}: {str(told).replace(token, '***')}",
            "Mend what it names, then run the same command again.",
        )
    return said
