"""The folder of the engine's state: where it is, and who may read what is in it."""

import os
import shlex
import stat
from pathlib import Path

import platformdirs


def default_home() -> Path:
    """Return the folder of `FINETUNE_HOME`, or the platform's data directory for this user."""
    return Path(os.environ.get("FINETUNE_HOME") or platformdirs.user_data_dir("finetune")).expanduser().resolve()


def shared_home_warning(home: Path) -> str | None:
    """Return what to tell the owner of a home whose mode gives rights to other users; None for a private home."""
    mode = stat.S_IMODE(home.stat().st_mode)
    if os.name != "posix" or not mode & 0o077:
        return None
    what = "change" if mode & 0o022 else "read"
    return (
        f"warning: other users may {what} the folder {home} (mode {mode:03o}). Its mode and those of its files were"
        f" kept; what is new in it is private.\n→ To make all of it private: chmod 700 {shlex.quote(str(home))}"
    )


def private(path: str, flags: int) -> int:
    """Open a file, as `open` does with this as its opener. If the file is new, only its owner can read it."""
    return os.open(path, flags, 0o600)
