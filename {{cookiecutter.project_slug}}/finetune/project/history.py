"""What Git knows of this project: who it is, and which fine-tunes its commits hold."""

import json
import subprocess
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.paths import FILES, MODEL


def git(*arguments: str) -> str:
    """What a Git command prints; nothing where it fails, as in a folder without commits."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout if done.returncode == 0 else ""


def project_id() -> str:
    """The hash of the first commit, which all clones share; "none" before it."""
    return (git("rev-list", "--max-parents=0", "HEAD").split() or ["none"])[-1]


def record_at(revision: str) -> dict[str, Any]:
    """The model's record as it was committed. Raises FinetuneError where the revision holds none."""
    text = git("show", f"{revision}:./{MODEL.as_posix()}")
    if not text:
        raise FinetuneError(
            f"{revision!r} holds no fine-tune: Git finds no {MODEL} there.",
            f"Name a commit or a tag that holds a fine-tune; list them with: git log --oneline -- {MODEL}",
        )
    return dict(json.loads(text))


def committed() -> list[dict[str, Any]]:
    """Every record of files and models that any commit of any branch, tag or experiment holds."""
    found = []
    for file in (FILES, MODEL):
        for commit in git("log", "--all", "--format=%H", "--", file.as_posix()).split():
            text = git("show", f"{commit}:./{file.as_posix()}")
            try:
                found.append(json.loads(text))
            except ValueError:  # the commit that took the file away
                continue
    return found
