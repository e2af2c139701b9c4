"""The process that trains: it validates new jobs, takes the machine's one lock, trains a job, starts the next worker.

`worker_launcher.start_worker` runs it as: python -m finetune.engine.training.worker HOME
"""

import faulthandler
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from finetune.engine import before_torch
from finetune.engine.api_errors import JobError
from finetune.engine.client_text import reason
from finetune.engine.schema import JobRow
from finetune.engine.store import UNFINISHED, Store
from finetune.engine.training.hyperparameters import resolve
from finetune.engine.training.training_file import check_same_kind, count_examples, file_of_job
from finetune.engine.worker_launcher import has_begun, start_worker, training_lock

MAX_STARTS = 10  # without a checkpoint between them; then the cause is the job, not the machine
DIED = (
    f"The worker process died {MAX_STARTS} times before it reached a checkpoint: it crashed, or the system killed it,"
    " often for lack of memory. The file worker.log in the server's FINETUNE_HOME says more."
)


def main(home: Path) -> None:
    """Validate new jobs; train the first waiting job unless another process trains; then start the next worker."""
    store = Store(home)
    has_begun(store)
    # One process at a time, so that a count of a job's starts above 1 means that a process died.
    with FileLock(home / "validate.lock", mode=0o600):
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


@contextmanager
def failing(store: Store, job: JobRow) -> Iterator[None]:
    """End the job as failed if the block raises anything, so that no job keeps the others from training."""
    try:
        yield
    except JobError as error:
        store.end_job(job["id"], "failed", error.code, str(error), error.param)
    except Exception as error:
        store.end_job(job["id"], "failed", "server_error", reason(error))
        traceback.print_exc()


def count_start(store: Store, job: JobRow) -> None:
    """Count a start of work on a job. Raises JobError if too many processes died of it."""
    if job["starts"] >= MAX_STARTS:
        raise JobError("server_error", DIED)
    store.execute("UPDATE jobs SET starts = starts + 1 WHERE id = ?", job["id"])


def validate_new_jobs(store: Store) -> None:
    """Check the files of each new job, and queue the job with its hyperparameters as numbers, or end it as failed."""
    for job in store.unfinished():
        if job["status"] == "validating_files":
            with failing(store, job):
                validate(store, job)


def validate(store: Store, job: JobRow) -> None:
    """Check the files of a new job and queue it. Raises JobError for what is wrong with them."""
    count_start(store, job)
    store.add_event(job["id"], f"Validating training file: {job['training_file']}")
    trained = count_examples(file_of_job(store, job["training_file"], "training_file"), "training_file")
    if job["validation_file"]:
        path = file_of_job(store, job["validation_file"], "validation_file")
        check_same_kind(trained.kind, count_examples(path, "validation_file").kind)
    resolved = resolve(json.loads(job["asked"]), trained.examples)
    if store.set_job_status(job["id"], "queued", resolved=json.dumps(resolved, sort_keys=True), starts=0):
        store.add_event(job["id"], "Files validated, moving job to queued state")


def run_job(store: Store, job: JobRow) -> None:
    """Train one job. Others that ran when their worker died wait for their turn."""
    with failing(store, job):
        count_start(store, job)
        store.execute("UPDATE jobs SET status = 'queued' WHERE status = 'running' AND id != ?", job["id"])
        # Imports torch, which takes half of the time that a worker needs to start.
        from finetune.engine.training.train_job import train_job

        train_job(store, job)


def delete_folders_of_ended_jobs(store: Store) -> None:
    """Delete the checkpoints that ended jobs would resume from; published models are in another folder."""
    for folder in (store.home / "jobs").iterdir():
        job = store.job(folder.name)
        if job and job["status"] not in (*UNFINISHED, "paused"):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.umask(0o077)
    faulthandler.enable()  # so that worker.log says where a worker crashed
    before_torch(Path(sys.argv[1]))
    main(Path(sys.argv[1]))
