"""Find a folder for a cache: its usual one, or a temporary one where that cannot be written."""

import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from finetune.core.damage import warn_once

MEGABYTE = 1 << 20


@cache
def writable_cache(folder: Path, bytes_needed: int = 0) -> Path:
    """Return a cache's folder, or a temporary one if it cannot be written: read-only, full, or below a file.

    What a cache holds can be made again, so this is said once and stops nothing. The temporary folder is one for each
    user and cache, so that the next command finds what this one has put there.
    """
    why = why_not_writable(folder, bytes_needed)
    if why is None:
        return folder
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    other = Path(tempfile.gettempdir()) / f"finetune-cache-{user}" / folder.name
    try:
        other.parent.mkdir(mode=0o700, exist_ok=True)
        is_ours = not hasattr(os, "getuid") or (
            other.parent.lstat().st_uid == os.getuid() and not other.parent.is_symlink()
        )
        if not is_ours or why_not_writable(other, bytes_needed):
            raise OSError
    except OSError:
        other = Path(tempfile.mkdtemp(prefix="finetune-cache-"))
    warn_once(f"the cache {folder} cannot be written ({why}). {other} is used instead.")
    return other


def why_not_writable(folder: Path, bytes_needed: int) -> str | None:
    """Return why so many bytes cannot be written to a folder, which is created if needed; None if they can."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(probe, "wb") as out:
            for _ in range(-(-bytes_needed // MEGABYTE)):
                out.write(bytes(MEGABYTE))
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None
