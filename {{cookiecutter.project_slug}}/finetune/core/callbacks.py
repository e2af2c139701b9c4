"""The functions by which long work reports its progress: commands provide them, stages call them."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # step, total (0: unknown) and a message
Say = Callable[[str], None]  # one line to print


def no_progress(step: int, total: int, message: str) -> None:
    """Report nothing."""


def say_nothing(message: str) -> None:
    """Say nothing."""
