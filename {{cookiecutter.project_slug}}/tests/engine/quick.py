"""The stages at a quicker pace, for tests of what happens between them: `python quick.py upload|train` runs one."""

import dataclasses
import sys

from finetune.core.profiles import PROFILES
from finetune.provider import connect, remote_files, remote_jobs

PACE = [
    (connect, "PATIENCE", 1),
    (remote_jobs, "LOOKS", (0.1, 0.2, 0.4)),
    (remote_jobs, "SETTLE", 1.1),
    (remote_files, "LOOKS", (0, 0.1, 0.2)),
]


def hurry() -> None:
    """The same protocol with shorter pauses, in this process."""
    PROFILES["local"] = dataclasses.replace(PROFILES["local"], poll_seconds=(0.05, 0.2))
    for module, name, value in PACE:
        setattr(module, name, value)


if __name__ == "__main__":
    from finetune.cli import main

    hurry()
    if "--meet" in sys.argv:
        sys.argv.remove("--meet")
    else:
        remote_jobs.SETTLE = 0.01
    main()
