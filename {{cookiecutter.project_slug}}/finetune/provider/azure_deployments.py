"""Deployments at Azure, by its resource manager."""

import os
import shutil
import subprocess
from urllib.parse import quote

from finetune.core.errors import FinetuneError
from finetune.core.profiles import Profile
from finetune.core.sections.provider import Deploy
from finetune.provider.answer_types import AZURE_DEPLOYMENT
from finetune.provider.deployment_call import Json, call

AZURE_VERSION = "2024-10-01"


def start_at_azure(name: str, source: str, settings: Deploy) -> str:
    """Create or change a deployment by Azure's control plane. Source: Microsoft's page on deploying, 2026-10."""
    body = {
        "sku": {"name": settings.sku, "capacity": settings.capacity},
        "properties": {"model": {"format": "OpenAI", "name": source, "version": "1"}},
    }
    call_azure("PUT", name, settings, body)
    return name


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
