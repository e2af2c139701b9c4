"""Fine-tuning jobs: created, read, cancelled, paused and resumed. Training itself is the worker's."""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.ids import new_id
from finetune.engine.schema import FileRow, JobRow
from finetune.engine.store import UNFINISHED, Store
from finetune.engine.worker_launcher import start_worker

LOG = logging.getLogger("uvicorn.error")


def create(
    store: Store,
    *,
    model: str,
    training_file: str,
    validation_file: str | None,
    method: str,
    hyperparameters: Mapping[str, object],
    suffix: str | None,
    seed: int | None,
    metadata: Mapping[str, str] | None,
    integrations: Sequence[Mapping[str, object]] = (),
) -> JobRow:
    """Create a job in `validating_files` and start a worker. Without a seed, the job gets a random one.

    `hyperparameters` are each a value or "auto".
    Raises ApiError for a model that cannot be trained, and for a file that is missing or has another purpose.
    """
    parent = check_model(store, model)
    check_training_file(store, training_file, "training_file")
    if validation_file is not None:
        check_training_file(store, validation_file, "validation_file")
    job_id = new_id("ftjob-")
    with store.transaction() as db:
        if parent:
            # Stored with the job, so that the job can be resumed from its own checkpoint when that model was deleted.
            db.execute("INSERT INTO parents VALUES (?, ?)", (job_id, parent))
        db.execute(
            "INSERT INTO jobs"
            " (id, created_at, status, model, suffix, seed, training_file, validation_file, asked, metadata,"
            " integrations, method) VALUES (?, ?, 'validating_files', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                job_id,
                int(time.time()),
                model,
                suffix,
                int.from_bytes(os.urandom(4), "big") >> 1 if seed is None else seed,
                training_file,
                validation_file,
                json.dumps(hyperparameters, sort_keys=True),
                json.dumps(metadata, sort_keys=True) if metadata else None,
                json.dumps(integrations, sort_keys=True) if integrations else None,
                method,
            ),
        )
        store.add_event(job_id, f"Created fine-tuning job: {job_id}")
        row = get(store, job_id)
    try:
        start_worker(store)
    except Exception:  # not answered as an error: the job is there, and the next request about jobs tries again
        LOG.exception("No worker was started for %s:", job_id)
    return row


def check_model(store: Store, model: str) -> str | None:
    """Return the base of a fine-tuned model, or None for a base. Raises ApiError for any other name."""
    tuned = store.row("SELECT base FROM models WHERE id = ?", model)
    if tuned:
        return str(tuned["base"])
    if not bases.known(model, store):
        others = (
            " An absolute folder and organisation/model@revision of the Hugging Face hub are allowed too."
            if store.any_base
            else " The server's owner can add others to FINETUNE_HOME/bases, or start it with --allow-any-base."
        )
        raise ApiError(
            400,
            f"The model {model!r} cannot be fine-tuned here. Installed bases: {', '.join(bases.installed(store))}."
            " Name one of these, or a fine-tuned model of this server, from which training continues." + others,
            "model_not_found",
            "model",
        )
    return None


def check_training_file(store: Store, file_id: str, param: str) -> None:
    row: FileRow | None = store.file(file_id)
    if row is None:
        is_expired = store.kept_file(file_id) is not None
        why = "has expired: upload the file again" if is_expired else "does not exist"
        raise ApiError(400, f"{param} {file_id!r} {why}.", "invalid_file", param)
    if row["purpose"] != "fine-tune":
        message = f"{param} {file_id!r} has purpose {row['purpose']!r}, not 'fine-tune'."
        raise ApiError(400, message, "invalid_file", param)


def get(store: Store, job_id: str) -> JobRow:
    """Return a job. Raises ApiError if there is none of this ID."""
    row = store.job(job_id)
    if row is None:
        raise ApiError(404, f"Could not find fine tune: {job_id}", "fine_tune_not_found", "id")
    return row


def cancel(store: Store, job_id: str) -> JobRow:
    """Cancel a job; its worker stops after the current step. Raises ApiError if the job has ended."""
    get(store, job_id)
    if not store.set_job_status(job_id, "cancelled", (*UNFINISHED, "paused"), finished_at=int(time.time())):
        raise ApiError(400, f"Job {job_id} has already ended.", "invalid_state")
    store.add_event(job_id, "Fine-tuning job cancelled", level="warn")
    return get(store, job_id)


def pause(store: Store, job_id: str) -> JobRow:
    """Pause a queued or running job; its worker stops after the current step and saves a checkpoint of it.

    Raises ApiError if the job is in another state.
    """
    get(store, job_id)
    if not store.set_job_status(job_id, "paused", ("queued", "running")):
        raise ApiError(400, f"Job {job_id} is neither queued nor running, so it cannot be paused.", "invalid_state")
    store.add_event(job_id, "Fine-tuning job paused")
    return get(store, job_id)


def resume(store: Store, job_id: str) -> JobRow:
    """Queue a paused job and start a worker; training continues after the last step. Raises ApiError if not paused."""
    get(store, job_id)
    if not store.set_job_status(job_id, "queued", ("paused",), starts=0):
        raise ApiError(400, f"Job {job_id} is not paused, so it cannot be resumed.", "invalid_state")
    store.add_event(job_id, "Fine-tuning job resumed, moving job to queued state")
    start_worker(store)
    return get(store, job_id)
