"""Deployments at Nebius, which calls them custom models."""

from urllib.parse import quote

from finetune.core.errors import FinetuneError
from finetune.pricing.catalogue import inference_name
from finetune.provider.answer_types import NEBIUS_MODEL
from finetune.provider.connect import Connection
from finetune.provider.deployment_call import Json, call
from finetune.provider.paging import all_rows


def start_at_nebius(connection: Connection, name: str, base: str, model: str, source: str) -> str:
    """Create a custom model at Nebius. Source: the notebooks of its cookbook (fine-tuning-1, distillation), 2026-08.

    It answers by the name that the answer has, which is another one. `base_model` is the base's name for inference.
    """
    body = {"name": name, "base_model": inference_name(base, connection.profile.name), "source": source}
    answered = call_nebius(connection, "POST", body=body).get("name")
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


def call_nebius(connection: Connection, method: str, name: str = "", body: Json | None = None) -> Json:
    """Call Nebius' route for custom models, or for the one of a name."""
    path = f"/{quote(name, safe='/:')}" if name else ""
    root = str(connection.client.base_url).rstrip("/").removesuffix("/v1")
    return call(method, f"{root}/v0/models{path}", connection.client.api_key, body, NEBIUS_MODEL)
