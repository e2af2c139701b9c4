"""The process that trains: it validates what is new, takes the machine's one lock, trains one job and hands on.

Run by `worker_launcher.start_worker` as: python -m finetune.engine.training.worker HOME
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path

from filelock import Timeout

from finetune.engine import before_torch, job_queue
from finetune.engine.api_errors import JobError
from finetune.engine.store import UNFINISHED, Row, Store
from finetune.engine.training.encoding import read_examples
from finetune.engine.worker_launcher import start_worker, training_lock

MAX_STARTS = 20  # without a checkpoint between them; then the job, not the machine, is to blame


def main(home: Path) -> None:
    """Validate the waiting jobs; train the oldest if no other process trains; then start the next worker."""
    store = Store(home)
    validate_new(store)
    try:
        # A moment's patience: `ensure_worker` holds the lock for an instant to see whether it is free.
        with training_lock(home).acquire(timeout=1, poll_interval=0.02):
            waiting = [job for job in store.unfinished() if job["status"] in ("queued", "running")]
            if waiting:
                run(store, waiting[0])
            clear(store)
    except Timeout:
        return
    if store.unfinished():
        start_worker(store)


def validate_new(store: Store) -> None:
    """Read the files of each new job: it is queued with its hyperparameters as numbers, or failed with the reason."""
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
        resolved = job_queue.resolve(json.loads(job["asked"]), len(examples))
        if store.set_job_status(job["id"], "queued", resolved=json.dumps(resolved, sort_keys=True)):
            store.add_event(job["id"], "Files validated, moving job to queued state")


def run(store: Store, job: Row) -> None:
    """Train one job; whatever goes wrong becomes the job's `error`, never a job that hangs."""
    if job["starts"] >= MAX_STARTS:
        message = f"The worker died {MAX_STARTS} times without reaching a checkpoint; see {store.home / 'worker.log'}."
        store.end_job(job["id"], "failed", "server_error", message)
        return
    store.execute("UPDATE jobs SET starts = starts + 1 WHERE id = ?", job["id"])
    try:
        from finetune.engine.training.trainer import train  # torch: half of a worker's start

        train(store, job)
    except JobError as error:
        store.end_job(job["id"], "failed", error.code, str(error), error.param)
    except Exception as error:
        traceback.print_exc()
        store.end_job(job["id"], "failed", "server_error", f"{type(error).__name__}: {error}")


def clear(store: Store) -> None:
    """Remove what ended jobs would be resumed from; their models lie elsewhere."""
    for folder in (store.home / "jobs").iterdir():
        job = store.job(folder.name)
        if job and job["status"] not in (*UNFINISHED, "paused"):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.umask(0o077)
    before_torch(Path(sys.argv[1]))
    main(Path(sys.argv[1]))
