"""The worker process: it validates new jobs, and trains those that wait by starting the trainer, one after another.

`worker_launcher.start_worker` runs it as: python -m finetune.engine.worker HOME
"""

import faulthandler
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from finetune.engine import before_torch
from finetune.engine.api_errors import JobError
from finetune.engine.attempts import file_of_job
from finetune.engine.client_text import reason
from finetune.engine.schema import JobRow
from finetune.engine.store import UNFINISHED, Store
from finetune.engine.training.hyperparameters import resolve
from finetune.engine.training.job_folder import Stopped
from finetune.engine.training.training_file import check_same_kind, count_examples
from finetune.engine.training_run import count_start, run_job
from finetune.engine.worker_launcher import devices_of, free_jobs, free_slot, job_lock, load_settings

# `worker_launcher.ensure_worker` and other workers hold a lock for a moment to see whether it is free.
SLOT_SECONDS, JOB_SECONDS = 1.0, 0.1


def main(home: Path) -> None:
    """Validate new jobs and train waiting ones, until none is left or other workers train."""
    store = Store(home)
    while True:
        load_settings(home)
        validate_new_jobs(store)
        slot = free_slot(home, SLOT_SECONDS)
        if slot is None:
            return
        try:
            while job := next_job(store):
                with suppress(Timeout), job_lock(store, job["id"]).acquire(timeout=JOB_SECONDS):
                    train(store, job["id"], devices_of(slot.number))
            delete_folders_of_ended_jobs(store)
        finally:
            slot.lock.release()
        if not free_jobs(store):  # else one was created after the last look, and its own worker found no free slot
            return


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


def validate_new_jobs(store: Store) -> None:
    """Check the files of the new jobs that no other worker checks, and queue each job, or end it as failed."""
    for job in store.unfinished():
        if job["status"] == "validating_files":
            with suppress(Timeout), job_lock(store, job["id"]).acquire(timeout=JOB_SECONDS):
                found = store.job(job["id"])
                if found and found["status"] == "validating_files":
                    with failing(store, job), suppress(Stopped):
                        validate(store, found)


def validate(store: Store, job: JobRow) -> None:
    """Check the files of a new job and queue it with its hyperparameters as numbers.

    Raises JobError for what is wrong with the files, and Stopped if the job is cancelled meanwhile.
    """

    def check() -> None:
        row = store.job(job["id"])
        if row is None or row["status"] not in UNFINISHED:
            raise Stopped

    count_start(store, job)
    store.add_event(job["id"], f"Validating training file: {job['training_file']}")
    path = file_of_job(store, job["training_file"], "training_file")
    trained = count_examples(path, "training_file", job["method"], check)
    if job["validation_file"]:
        path = file_of_job(store, job["validation_file"], "validation_file")
        check_same_kind(trained.kind, count_examples(path, "validation_file", job["method"], check).kind)
    resolved = resolve(json.loads(job["asked"]), trained.examples, job["method"])
    if store.set_job_status(job["id"], "queued", resolved=json.dumps(resolved, sort_keys=True), starts=0):
        store.add_event(job["id"], "Files validated, moving job to queued state")


def next_job(store: Store) -> JobRow | None:
    """Return the first job that no worker works on. Others that ran when their worker died wait for their turn."""
    waiting = [job for job in free_jobs(store) if job["status"] != "validating_files"]
    for job in waiting[1:]:
        store.set_job_status(job["id"], "queued", ("running",))
    return waiting[0] if waiting else None


def train(store: Store, job_id: str, environment: dict[str, str]) -> None:
    """Train a job, whose lock this worker holds."""
    load_settings(store.home)
    job = store.job(job_id)
    if job and job["status"] in ("queued", "running"):
        with failing(store, job):
            run_job(store, job, environment)
        store.set_job_status(job_id, "queued", ("running",))  # its trainer died


def delete_folders_of_ended_jobs(store: Store) -> None:
    """Delete the folders of ended jobs; published models are in another folder."""
    for folder in (store.home / "jobs").iterdir():
        job = store.job(folder.name)
        if job and job["status"] not in (*UNFINISHED, "paused"):
            with suppress(Timeout), job_lock(store, job["id"]).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.umask(0o077)
    faulthandler.enable()  # so that worker.log says where a worker crashed
    before_torch(Path(sys.argv[1]))
    main(Path(sys.argv[1]))
