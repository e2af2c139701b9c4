"""A large file in pieces of whole lines, worked on side by side; what comes of it does not depend on how many work."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

SIZE = 1024**2  # bytes of a piece: what a processor keeps at hand
WORTH = 16 * 1024**2  # bytes of work from which a second process pays for its start
Piece = tuple[int, int]  # the bytes from .. to
Work = TypeVar("Work")
Result = TypeVar("Result")


def cut(path: Path, start: int = 0, size: int = SIZE) -> list[Piece]:
    """The file from `start` on in pieces of about `size` bytes, each ending with a line. Raises OSError."""
    pieces = []
    with open(path, "rb") as content:
        end = content.seek(0, os.SEEK_END)
        while start < end:
            content.seek(min(start + size, end))
            content.readline()
            pieces.append((start, content.tell()))
            start = content.tell()
    return pieces


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    function: Callable[[Work], Result],
    work: Iterable[Work],
    weight: int,
    workers: int | None = None,
    may_fork: bool = False,
) -> Iterator[Result]:
    """The results of `function`, which must be importable, in the order of `work`, which is taken up as it is done.

    `weight` is the work in bytes: by default little of it is done here, much of it by a process per core. `may_fork`
    says that the function uses no threads, not even below Python: then a worker on Linux starts with all that is loaded
    here, in no time.
    """
    count = workers or (cores() if weight >= WORTH else 1)
    if count == 1:
        yield from map(function, work)
        return
    # Else not forked: a fork copies whatever threads hold at that moment, and macOS forbids it.
    forks = may_fork and sys.platform == "linux" and threading.active_count() == 1
    with ProcessPoolExecutor(count, multiprocessing.get_context("fork" if forks else "spawn")) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in work:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
