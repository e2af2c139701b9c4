"""Work on a large file in chunks of whole lines, by several processes; results do not depend on their number."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

CHUNK_BYTES = 1024**2  # fits a processor's cache
PARALLEL_BYTES = 16 * 1024**2  # bytes of work from which a second process saves more time than its start takes
Chunk = tuple[int, int]  # the first byte, and the byte behind the last
Work = TypeVar("Work")
Result = TypeVar("Result")


def cut_into_chunks(path: Path, start: int = 0, size: int = CHUNK_BYTES) -> list[Chunk]:
    """Return chunks of about `size` bytes from `start` on, each of whole lines. Raises OSError."""
    chunks = []
    with open(path, "rb") as content:
        end = content.seek(0, os.SEEK_END)
        while start < end:
            content.seek(min(start + size, end))
            content.readline()
            chunks.append((start, content.tell()))
            start = content.tell()
    return chunks


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_parallel(
    function: Callable[[Work], Result],
    work: Iterable[Work],
    weight: int,
    workers: int | None = None,
    may_fork: bool = False,
) -> Iterator[Result]:
    """Yield the result of `function` for each item of `work`, in order. The function must be importable.

    `weight` is the work in bytes: by default small work is done in this process, large work by one process per core.
    `may_fork` says that the function starts no threads, not even in C code. Then workers on Linux are forked, which
    saves their start.
    """
    count = workers or (cores() if weight >= PARALLEL_BYTES else 1)
    if count == 1:
        yield from map(function, work)
        return
    # A fork copies locks that other threads hold, and macOS forbids it.
    forks = may_fork and sys.platform == "linux" and threading.active_count() == 1
    with ProcessPoolExecutor(count, multiprocessing.get_context("fork" if forks else "spawn")) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in work:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
