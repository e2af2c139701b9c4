"""The process that trains: it validates new jobs, takes the machine's one lock, trains a job, starts the next worker.

`worker_launcher.start_worker` runs it as: python -m finetune.engine.training.worker HOME
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path

from filelock import Timeout

from finetune.engine import before_torch
from finetune.engine.api_errors import JobError
from finetune.engine.schema import JobRow
from finetune.engine.store import UNFINISHED, Store
from finetune.engine.training.hyperparameters import resolve
from finetune.engine.training.training_file import read_examples
from finetune.engine.worker_launcher import start_worker, training_lock

MAX_STARTS = 20  # without a checkpoint between them; then the cause is the job, not the machine


def main(home: Path) -> None:
    """Validate new jobs; train the oldest job unless another process trains; then start the next worker."""
    store = Store(home)
    validate_new_jobs(store)
    try:
        # `worker_launcher.ensure_worker` holds the lock for a moment to see whether it is free, so wait a little.
        with training_lock(home).acquire(timeout=1, poll_interval=0.02):
            waiting = [job for job in store.unfinished() if job["status"] in ("queued", "running")]
            if waiting:
                run_job(store, waiting[0])
            delete_folders_of_ended_jobs(store)
    except Timeout:
        return
    if store.unfinished():
        start_worker(store)


def validate_new_jobs(store: Store) -> None:
    """Check the files of each new job, and queue the job with its hyperparameters as numbers, or end it as failed."""
    for job in store.unfinished():
        if job["status"] != "validating_files":
            continue
        store.add_event(job["id"], f"Validating training file: {job['training_file']}")
        try:
            examples = read_examples(store.file_path(job["training_file"]), "training_file")
            if job["validation_file"]:
                read_examples(store.file_path(job["validation_file"]), "validation_file")
        except JobError as error:
            store.end_job(job["id"], "failed", error.code, str(error), error.param)
            continue
        resolved = resolve(json.loads(job["asked"]), len(examples))
        if store.set_job_status(job["id"], "queued", resolved=json.dumps(resolved, sort_keys=True)):
            store.add_event(job["id"], "Files validated, moving job to queued state")


def run_job(store: Store, job: JobRow) -> None:
    """Train one job; an exception ends the job as failed, with the exception in its `error`."""
    if job["starts"] >= MAX_STARTS:
        message = f"The worker died {MAX_STARTS} times without reaching a checkpoint; see {store.home / 'worker.log'}."
        store.end_job(job["id"], "failed", "server_error", message)
        return
    store.execute("UPDATE jobs SET starts = starts + 1 WHERE id = ?", job["id"])
    try:
        # Imports torch, which takes half of the time that a worker needs to start.
        from finetune.engine.training.train_job import train_job

        train_job(store, job)
    except JobError as error:
        store.end_job(job["id"], "failed", error.code, str(error), error.param)
    except Exception as error:
        traceback.print_exc()
        store.end_job(job["id"], "failed", "server_error", f"{type(error).__name__}: {error}")


def delete_folders_of_ended_jobs(store: Store) -> None:
    """Delete the checkpoints that ended jobs would resume from; published models are in another folder."""
    for folder in (store.home / "jobs").iterdir():
        job = store.job(folder.name)
        if job and job["status"] not in (*UNFINISHED, "paused"):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.umask(0o077)
    before_torch(Path(sys.argv[1]))
    main(Path(sys.argv[1]))
