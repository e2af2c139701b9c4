"""Show progress: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from finetune.core.callbacks import Progress

EVERY_SECONDS = 10


def say(message: str) -> None:
    """Print a line on standard error."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Yield a function `(step, total, message)` that shows the progress; a total of 0 is unknown."""
    if not sys.stderr.isatty():
        yield plain_lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:

        def show(step: int, total: int, message: str) -> None:
            # The task is added at the first step, so that quick work shows nothing.
            task = bar.task_ids[0] if bar.task_ids else bar.add_task("")
            bar.update(task, completed=step, total=total or None, description=message)

        yield show


def plain_lines(title: str) -> Progress:
    """Return a function that prints at most one line in ten seconds, and the last one."""
    last = 0.0

    def show(step: int, total: int, message: str) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_SECONDS or (total and step == total):
            last = time.monotonic()
            say(f"{title}: {step}/{total} {message}" if total else f"{title}: {message}")

    return show
