"""How the C library keeps memory that is freed, where it is glibc: for the next block, or not at all."""

import ctypes
import sys
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGE_BLOCK = 1_000_000  # bytes
LARGEST_KEPT_BLOCK, MAX_KEPT = 32 * 1024**2, 1024**3  # bytes; older versions of glibc take no larger block


def give_back_freed_blocks() -> None:
    """Let the system have each large block of memory back when it is freed, where glibc allocates.

    By itself, glibc keeps blocks of up to 32 MB in its heap, which falls to pieces: in float32, a job could need twice
    the estimate. It is for jobs that may not fit, since mapping each block takes time.
    """
    set_allocator({M_MMAP_THRESHOLD: LARGE_BLOCK})


def keep_freed_blocks() -> None:
    """Keep freed memory for the next block, where glibc allocates.

    By itself, glibc gives the end of its heap back many times a step, and the system clears each page again: a step of
    the default starter took an eighth more time.
    """
    set_allocator({M_MMAP_THRESHOLD: LARGEST_KEPT_BLOCK, M_TRIM_THRESHOLD: MAX_KEPT})


def give_back_free_memory() -> None:
    """Give all memory that is free in glibc's heap back to the system, once."""
    if libc := glibc():
        libc.malloc_trim(0)


def set_allocator(options: Mapping[int, int]) -> None:
    if libc := glibc():
        for option, value in options.items():
            libc.mallopt(option, value)


def glibc() -> ctypes.CDLL | None:
    """Return glibc's functions; None where another library allocates."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None
