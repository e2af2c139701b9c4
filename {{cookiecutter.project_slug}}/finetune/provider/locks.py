"""Locks between processes of one user, for work that looks for something and creates it if it is missing."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from finetune.core.paths import user_home


@contextmanager
def exclusive_lock(*names: str) -> Iterator[None]:
    """Hold the lock of these names for the block; wait while another clone or stage of this user holds it.

    The operating system releases the lock when the process ends.
    """
    from filelock import FileLock

    folder = user_home() / "locks"
    folder.mkdir(exist_ok=True, mode=0o700)
    with FileLock(folder / f"{hashlib.sha256(' '.join(names).encode()).hexdigest()[:32]}.lock", mode=0o600):
        yield
