"""Endpoints of fine-tuning jobs, their events and their checkpoints."""

import json
import re

from starlette.requests import Request

from finetune.engine import job_queue
from finetune.engine.api.helpers import page, store_of
from finetune.engine.api.requests import JobRequest
from finetune.engine.api.responses import Json, checkpoint_object, event_object, job_object
from finetune.engine.schema import JOBS, CheckpointRow, EventRow, JobRow
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
    wanted = {
        match[1]: value
        for name, value in request.query_params.items()
        if (match := re.fullmatch(r"metadata\[(.*)\]", name))
    }
    rows: list[JobRow] = store.rows(f"{JOBS} ORDER BY n DESC")
    rows = [row for row in rows if wanted.items() <= json.loads(row["metadata"] or "{}").items()]
    if request.query_params.get("metadata") == "null":
        rows = [row for row in rows if row["metadata"] is None]
    return page(request, rows, job_object, 20, 100)


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
    rows: list[EventRow] = store.rows("SELECT * FROM events WHERE job = ? ORDER BY n DESC", job["id"])
    return page(request, rows, event_object, 20, 1000)


def list_checkpoints(request: Request) -> Json:
    store = store_of(request)
    job = job_queue.get(store, request.path_params["id"])
    rows: list[CheckpointRow] = store.rows("SELECT * FROM checkpoints WHERE job = ? ORDER BY n DESC", job["id"])
    return page(request, rows, checkpoint_object, 10, 1000)
