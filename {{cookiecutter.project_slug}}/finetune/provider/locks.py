"""One process of this user at a time where something is looked for and, if it is not there, made."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from finetune.core.paths import user_home


@contextmanager
def alone(*what: str) -> Iterator[None]:
    """Wait until no other clone or stage of this user holds the same, then hold it for the block.

    The system lets go of it when the process dies.
    """
    from filelock import FileLock

    folder = user_home() / "locks"
    folder.mkdir(exist_ok=True, mode=0o700)
    with FileLock(folder / f"{hashlib.sha256(' '.join(what).encode()).hexdigest()[:32]}.lock", mode=0o600):
        yield
