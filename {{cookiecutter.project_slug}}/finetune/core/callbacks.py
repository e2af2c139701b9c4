"""How long work reports what it does: functions that the commands hand down, and that stages only call."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # step, total (0: unknown) and a message
Say = Callable[[str], None]  # one line for the person who waits


def no_progress(step: int, total: int, message: str) -> None:
    """Report nothing."""


def say_nothing(message: str) -> None:
    """Say nothing."""
