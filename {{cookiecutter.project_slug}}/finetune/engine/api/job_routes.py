"""Endpoints of fine-tuning jobs, their events and their checkpoints."""

import importlib.util

from starlette.requests import Request

from finetune.engine import job_queue
from finetune.engine.api.helpers import engine_of, store_of
from finetune.engine.api.lists import Condition, page
from finetune.engine.api.queries import JobQuery
from finetune.engine.api.requests import JobRequest
from finetune.engine.api.responses import Json, checkpoint_object, event_object, job_object
from finetune.engine.api_errors import ApiError
from finetune.engine.schema import JOBS
from finetune.engine.worker_launcher import ensure_worker


def create_job(request: Request, body: JobRequest) -> Json:
    row = job_queue.create(
        store_of(request),
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        method=body.method.type if body.method else "supervised",
        hyperparameters=body.asked_hyperparameters().model_dump(),
        suffix=body.suffix,
        seed=body.seed,
        metadata=body.metadata,
        integrations=checked_integrations(body),
    )
    engine_of(request).generator.before_training(row["id"], row["base"])
    return job_object(row)


def checked_integrations(body: JobRequest) -> list[dict[str, object]]:
    """Return the integrations of a request. Raises ApiError if this server has no library for one of them."""
    asked = [one.model_dump(exclude_none=True) for one in body.integrations or ()]
    if asked and importlib.util.find_spec("wandb") is None:
        what = "This server cannot send metrics to Weights & Biases: its library is not installed. On the server, run"
        raise ApiError(400, f"{what}: pip install wandb", "unsupported_value", "integrations")
    return asked


def list_jobs(request: Request) -> Json:
    """List jobs, newest first; those with the metadata of `metadata[key]=value`, or without any for `metadata=null`."""
    store = store_of(request)
    ensure_worker(store)
    return page(request, JOBS, metadata_conditions(request.state.query), job_object)


def metadata_conditions(query: JobQuery) -> list[Condition]:
    """Return the conditions of the query's metadata."""
    if query.metadata == "null":
        return [("metadata IS NULL", [])]
    has_pair = "n IN (SELECT job FROM job_metadata WHERE key = ? AND value = ?)"
    return [(has_pair, pair) for pair in query.metadata or ()]


def get_job(request: Request) -> Json:
    ensure_worker(store_of(request))
    row = job_queue.get(store_of(request), request.path_params["id"])
    if row["status"] == "succeeded":
        engine_of(request).generator.after_training(row["id"], row["base"])
    return job_object(row)


def cancel_job(request: Request) -> Json:
    return job_object(job_queue.cancel(store_of(request), request.path_params["id"]))


def pause_job(request: Request) -> Json:
    return job_object(job_queue.pause(store_of(request), request.path_params["id"]))


def resume_job(request: Request) -> Json:
    return job_object(job_queue.resume(store_of(request), request.path_params["id"]))


def list_events(request: Request) -> Json:
    store = store_of(request)
    ensure_worker(store)
    job = job_queue.get(store, request.path_params["id"])
    return page(request, "SELECT * FROM events", [("job = ?", [job["id"]])], event_object, f"events {job['id']}")


def list_checkpoints(request: Request) -> Json:
    store = store_of(request)
    job = job_queue.get(store, request.path_params["id"])
    of_job: list[Condition] = [("job = ?", [job["id"]])]
    return page(request, "SELECT * FROM checkpoints", of_job, checkpoint_object, f"checkpoints {job['id']}")
