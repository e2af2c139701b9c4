"""The checkpoints that an interrupted job resumes from."""

import json
import shutil
from pathlib import Path

from finetune.engine.store import Store, sha256_of

COMPLETE = "complete"  # a file in a checkpoint's folder, written after all the others: the SHA-256 of each as JSON


def mark_complete(checkpoint: Path) -> None:
    """Mark a checkpoint's folder as written to its end."""
    digests = {path.name: sha256_of(path) for path in checkpoint.iterdir() if path.is_file()}
    (checkpoint / COMPLETE).write_text(json.dumps(digests, sort_keys=True), encoding="utf-8")


def newest_complete_checkpoint(work: Path) -> Path | None:
    """Return the newest complete checkpoint in a job's folder, and delete the incomplete and the damaged ones."""
    for folder in sorted(work.glob("checkpoint-*"), key=step_of, reverse=True):
        if is_complete(folder):
            return folder
        shutil.rmtree(folder)
    return None


def is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint's files are those that were written. Earlier versions stored no digests."""
    try:
        digests = json.loads((checkpoint / COMPLETE).read_bytes() or b"{}")
        return all(sha256_of(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):
        return False


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was saved."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def delete_reports_after(store: Store, job_id: str, step: int) -> None:
    """Delete the steps and events after `step`, which a killed worker reported: the job repeats those steps."""
    with store.transaction() as db:
        db.execute("DELETE FROM steps WHERE job = ? AND step > ?", (job_id, step))
        db.execute("DELETE FROM events WHERE job = ? AND step > ?", (job_id, step))
