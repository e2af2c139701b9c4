"""deploy: an optional step after train, for providers whose fine-tuned models answer only when deployed."""

from pathlib import Path
from typing import Any

from finetune.core.disk import read_json, read_note, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import MODEL
from finetune.core.profiles import PROFILES
from finetune.provider import deployments
from finetune.provider.connect import connect
from finetune.terminal.progress import say

DEPLOYMENT = Path("models/deployment.json")


def deploy(params: Params) -> dict[str, Any]:
    """Deploy the model of the record and note the name to ask for it by."""
    record = read_json(MODEL, "train")
    with connect(params.provider) as connection:
        model, job = record["model"], record["job"]
        name = deployments.deploy(connection, params.train.base, model, job, params.provider.deploy, say)
    note = {"provider": params.provider.name, "model": record["model"], "name": name}
    write_json(DEPLOYMENT, note)
    return note


def remove(params: Params) -> str:
    """Take the noted deployment away; its name comes back."""
    name = str(read_json(DEPLOYMENT, "train, then finetune deploy")["name"])
    with connect(params.provider) as connection:
        deployments.remove(connection, name, params.provider.deploy)
    DEPLOYMENT.unlink()
    return name


def answering_name(params: Params, model: str) -> str:
    """What to ask a fine-tuned model by: its own name, or that of its deployment.

    Raises FinetuneError where the provider wants a deployment and there is none of this model.
    """
    profile = PROFILES[params.provider.name]
    if profile.deploys is None:
        return model
    note = read_note(DEPLOYMENT)
    if note.get("model") != model:
        raise FinetuneError(
            f"{profile.name!r} lets {model} answer only when it is deployed. It costs {profile.deploys}.",
            "Deploy it with: finetune deploy, then: dvc repro",
        )
    return str(note["name"])
