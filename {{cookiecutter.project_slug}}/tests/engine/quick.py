"""Shorter pauses for tests of the stages: `python quick.py upload|train` runs one stage with them.

With `--meet`, the stage waits long enough to see a job that another machine created at the same time.
"""

import dataclasses
import http.client
import os
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from finetune.core.profiles import PROFILES
from finetune.project import cleanup
from finetune.provider import bounded_client, connect, create_once, ready_model, remote_files, twin_jobs

if TYPE_CHECKING:
    import pytest

TIMEOUTS: list[tuple[Any, str, Any]] = [
    (connect, "TIMEOUT", 1),
    (connect, "DOWNLOAD_TIMEOUT", 1),
    (remote_files, "UPLOAD_TIMEOUT", 1),
    (bounded_client, "ENDS_AFTER", 3),
]
PAUSES: list[tuple[Any, str, Any]] = [
    (ready_model, "PATIENCE", 2),
    (cleanup, "SPARED", -1),
    (twin_jobs, "LIST_DELAY", 1.1),
]
SERVER = "FAULTY_SERVER"  # the variable with the address of the server whose clock is moved


class SkippedTime:
    """The module `time` for waits on lists: a pause takes no time here, and the server's clock moves by it.

    So the pauses are those of users, and no load of the machine can make the server seem slower than they are.
    """

    def __init__(self, server: str) -> None:
        self.server, self.skipped = urlsplit(server), 0.0

    def sleep(self, seconds: float) -> None:
        self.skipped += seconds
        connection = http.client.HTTPConnection(self.server.hostname or "", self.server.port)
        try:
            connection.request("POST", f"/skip/{seconds}")
            connection.getresponse().read()
        finally:
            connection.close()

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def time(self) -> float:
        return time.time() + self.skipped


def shorten_pauses() -> None:
    """Shorten all pauses of this process; the protocol stays the same."""
    PROFILES["local"] = dataclasses.replace(PROFILES["local"], poll_seconds=(0.05, 0.2))
    for module, name, value in PAUSES:
        setattr(module, name, value)
    if SERVER in os.environ:
        setattr(create_once, "time", SkippedTime(os.environ[SERVER]))  # noqa: B010 - mypy knows a module there


def shorten_timeouts() -> None:
    """Shorten all timeouts of this process. On a machine with other load, a call may fail by them alone."""
    for module, name, value in TIMEOUTS:
        setattr(module, name, value)


def use_engine(patch: "pytest.MonkeyPatch", key: str) -> None:
    """Use an engine's key and shorter pauses and timeouts, until `patch` is undone."""
    patch.setenv("FINETUNE_ENGINE_KEY", key)
    patch.setitem(PROFILES, "local", PROFILES["local"])
    for module, name, value in [*PAUSES, *TIMEOUTS]:
        patch.setattr(module, name, value)
    shorten_pauses()
    shorten_timeouts()


if __name__ == "__main__":
    from finetune.cli import main

    shorten_pauses()
    if "--meet" in sys.argv:
        sys.argv.remove("--meet")
    else:
        twin_jobs.LIST_DELAY = 0.01
    main()
