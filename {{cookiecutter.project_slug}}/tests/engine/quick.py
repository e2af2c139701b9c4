"""Shorter pauses for tests of the stages: `python quick.py upload|train` runs one stage with them.

With `--meet`, the stage waits long enough to see a job that another machine created at the same time. With `--patient`,
it looks for such a job for longer, because processes start slowly.
"""

import dataclasses
import sys

from finetune.core.profiles import PROFILES
from finetune.project import cleanup
from finetune.provider import bounded_client, connect, create_once, ready_model, remote_files, remote_jobs

PAUSES = [
    (connect, "TIMEOUT", 1),
    (connect, "DOWNLOAD_TIMEOUT", 1),
    (remote_files, "UPLOAD_TIMEOUT", 1),
    (bounded_client, "ENDS_AFTER", 3),
    (create_once, "PAUSES", (0.1, 0.2)),
    (create_once, "LIST_LAG", 0.9),  # a two-hundredth
    (ready_model, "PATIENCE", 2),
    (cleanup, "SPARED", -1),
    (remote_jobs, "LIST_LAG", 0.9),
    (remote_jobs, "LIST_DELAY", 1.1),
]


def shorten_pauses() -> None:
    """Shorten all pauses of this process; the protocol stays the same."""
    PROFILES["local"] = dataclasses.replace(PROFILES["local"], poll_seconds=(0.05, 0.2))
    for module, name, value in PAUSES:
        setattr(module, name, value)


if __name__ == "__main__":
    from finetune.cli import main

    if "--patient" in sys.argv:
        sys.argv.remove("--patient")
        PAUSES.append((remote_jobs, "LIST_LAG", 20))
    shorten_pauses()
    if "--meet" in sys.argv:
        sys.argv.remove("--meet")
    else:
        remote_jobs.LIST_DELAY = 0.01
    main()
