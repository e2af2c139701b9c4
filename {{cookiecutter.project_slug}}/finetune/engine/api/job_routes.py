"""Endpoints of fine-tuning jobs, their events and their checkpoints."""

from starlette.requests import Request

from finetune.engine import job_queue
from finetune.engine.api.helpers import store_of
from finetune.engine.api.lists import Condition, page
from finetune.engine.api.requests import JobRequest
from finetune.engine.api.responses import Json, checkpoint_object, event_object, job_object
from finetune.engine.api_errors import ApiError
from finetune.engine.request_body import MAX_PAIRS
from finetune.engine.schema import JOBS
from finetune.engine.worker_launcher import ensure_worker


def create_job(request: Request, body: JobRequest) -> Json:
    row = job_queue.create(
        store_of(request),
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        hyperparameters=body.asked_hyperparameters().model_dump(),
        suffix=body.suffix,
        seed=body.seed,
        metadata=body.metadata,
    )
    return job_object(row)


def list_jobs(request: Request) -> Json:
    """List jobs, newest first; those with the metadata of `metadata[key]=value`, or without any for `metadata=null`."""
    store = store_of(request)
    ensure_worker(store)
    return page(request, JOBS, metadata_conditions(request), job_object, 20, 100)


def metadata_conditions(request: Request) -> list[Condition]:
    """Return the conditions of the query's metadata. Raises ApiError for a mixture of its two forms."""
    query = request.query_params.multi_items()
    pairs = [[name[9:-1], value] for name, value in query if name.startswith("metadata[") and name.endswith("]")]
    bare = [value for name, value in query if name == "metadata"]
    if bare and (pairs or set(bare) != {"null"}):
        what = "'metadata' must be null, or a pair in the form metadata[key]=value; not both."
        raise ApiError(400, what, "invalid_value", "metadata")
    if len(pairs) > MAX_PAIRS:
        raise ApiError(400, f"'metadata' may have at most {MAX_PAIRS} pairs.", "invalid_value", "metadata")
    if bare:
        return [("metadata IS NULL", [])]
    return [("n IN (SELECT job FROM job_metadata WHERE key = ? AND value = ?)", pair) for pair in pairs]


def get_job(request: Request) -> Json:
    ensure_worker(store_of(request))
    return job_object(job_queue.get(store_of(request), request.path_params["id"]))


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
    return page(request, "SELECT * FROM events", [("job = ?", [job["id"]])], event_object, 20, 1000)


def list_checkpoints(request: Request) -> Json:
    store = store_of(request)
    job = job_queue.get(store, request.path_params["id"])
    return page(request, "SELECT * FROM checkpoints", [("job = ?", [job["id"]])], checkpoint_object, 10, 1000)
