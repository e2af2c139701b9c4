"""The checkpoints that an interrupted job resumes from."""

import shutil
from pathlib import Path

from finetune.engine.store import Store

COMPLETE = "complete"  # a file in a checkpoint's folder, written after all the others


def mark_complete(checkpoint: Path) -> None:
    """Mark a checkpoint's folder as written to its end."""
    (checkpoint / COMPLETE).touch()


def newest_complete_checkpoint(work: Path) -> Path | None:
    """Return the newest complete checkpoint in a job's folder, and delete the incomplete ones."""
    found = sorted(work.glob("checkpoint-*"), key=step_of)
    for folder in found:
        if not (folder / COMPLETE).exists():
            shutil.rmtree(folder)
    return next((folder for folder in reversed(found) if folder.exists()), None)


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was saved."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def delete_reports_after(store: Store, job_id: str, step: int) -> None:
    """Delete the steps and events after `step`, which a killed worker reported: the job repeats those steps."""
    with store.transaction() as db:
        db.execute("DELETE FROM steps WHERE job = ? AND step > ?", (job_id, step))
        db.execute("DELETE FROM events WHERE job = ? AND step > ?", (job_id, step))
