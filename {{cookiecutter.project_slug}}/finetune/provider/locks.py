"""Locks between processes of one user, for work that looks for something and creates it if it is missing."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finetune.core.paths import user_home


@contextmanager
def exclusive_lock(*names: str, waits: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the lock of these names for the block; wait while another clone or stage of this user holds it.

    `waits` is called before a wait. The operating system releases the lock when the process ends.
    """
    from filelock import FileLock, Timeout

    folder = user_home() / "locks"
    folder.mkdir(exist_ok=True, mode=0o700)
    lock = FileLock(folder / f"{hashlib.sha256(' '.join(names).encode()).hexdigest()[:32]}.lock", mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if waits:
            waits()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
