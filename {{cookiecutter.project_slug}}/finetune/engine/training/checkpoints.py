"""The checkpoints that an interrupted job resumes from."""

import json
import shutil
from pathlib import Path

from finetune.engine.digests import sha256_of

COMPLETE = "complete"  # a file in a checkpoint's folder, written after all the others: the SHA-256 of each as JSON
KEPT = 2  # of a job that trains: the newest one may be damaged


def mark_complete(checkpoint: Path) -> None:
    """Mark a checkpoint's folder as written to its end."""
    digests = {path.name: sha256_of(path) for path in checkpoint.iterdir() if path.is_file()}
    (checkpoint / COMPLETE).write_text(json.dumps(digests, sort_keys=True), encoding="utf-8")


def checkpoints_below(folder: Path) -> list[Path]:
    """Return the checkpoints at any depth of a folder, newest first."""
    return sorted(folder.rglob("checkpoint-*"), key=step_of, reverse=True)


def newest_complete_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint below a folder, and delete the newer ones, which are cut or damaged."""
    for checkpoint in checkpoints_below(folder):
        if is_complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def delete_old_checkpoints(folder: Path, step: int) -> None:
    """Delete all but the newest checkpoints up to a step below a folder. Those after it are not published yet."""
    for checkpoint in [one for one in checkpoints_below(folder) if step_of(one) <= step][KEPT:]:
        shutil.rmtree(checkpoint, ignore_errors=True)


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
