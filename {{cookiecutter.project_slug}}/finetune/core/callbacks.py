"""How long work reports its progress: functions that the terminal provides, and that other rooms only call."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # step, total (0: unknown) and a message
Say = Callable[[str], None]  # one line to print


def say_nothing(message: str) -> None:
    """Say nothing."""
