"""One server for all stages of a `dvc repro`: a process that ends when DVC ends.

DVC starts a process for each stage. If each had its own server, each would import torch and load the base again.
"""

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from finetune.engine import launcher
from finetune.engine.home import default_home, private, shared_home_warning
from finetune.engine.worker_launcher import copy_of_code

STARTUP_SECONDS = 60  # it takes one second; more on a machine that is busy
CLOCK_SECONDS = 10  # by which the time of a start may differ from what it was said to be
STAGE = "DVC_STAGE"  # the only variable of the environment that differs by stage


@dataclass(frozen=True)
class Address:
    """The address and the API key of a running server."""

    base_url: str
    key: str


def address_beside_dvc() -> Address | None:
    """Return the address of the server of this run of DVC; None outside of a stage, or if it cannot be started."""
    if STAGE not in os.environ:
        return None
    try:
        # A shell may be between them. It has the stage's environment.
        dvc = next(process for process in psutil.Process().parents() if STAGE not in process.environ())
    except (StopIteration, psutil.Error):
        return None
    return address_beside(dvc.pid) if dvc.pid != 1 else None  # 1: DVC has ended


def address_beside(pid: int) -> Address | None:
    """Return the address of the server that ends with a process; it is started where there is none.

    A server is shared only by commands with the same environment and code. None if it cannot be started.
    """
    home = default_home()
    try:
        environment = {**psutil.Process().environ(), STAGE: ""}
        code = copy_of_code(home)
        what = repr((pid, sys.executable, code.name, sorted(environment.items())))
        record = home / "servers" / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
        record.parent.mkdir(exist_ok=True, mode=0o700)
        if address := running(record):
            os.utime(record)  # somebody is about to connect
        else:
            address = start(home, code, pid, record)
    except (OSError, psutil.Error):
        return None
    if address and (warning := shared_home_warning(home)):
        print(warning, file=sys.stderr, flush=True)
    return address


def running(record: Path) -> Address | None:
    """Return the address of the server that wrote a record; None if it does not run any more, or nothing is legible."""
    with suppress(OSError, ValueError, KeyError, TypeError, psutil.Error):
        found = json.loads(record.read_bytes())
        process = psutil.Process(found["pid"])
        # When a process has started is known by the clock, which may have been set since then.
        is_same = abs(process.create_time() - found["started"]) < CLOCK_SECONDS
        if is_same and process.status() != psutil.STATUS_ZOMBIE:
            return Address(**found["address"])
    return None


def start(home: Path, code: Path, pid: int, record: Path) -> Address | None:
    """Start a server that ends with a process, and wait until it listens. None if it ends before."""
    for old in record.parent.glob("*.json"):  # of servers that were killed
        if not running(old):
            old.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "finetune.engine.embedded", str(pid), str(record)]
    process = launcher.start(home, command, PYTHONPATH=path, FINETUNE_HOME=str(home))
    end = time.monotonic() + STARTUP_SECONDS
    while process.poll() is None:
        if address := running(record):
            return address
        if time.monotonic() > end:
            process.kill()
        time.sleep(0.01)
    return None


def write_record(record: Path, address: Address) -> None:
    """Write where this process serves, for `running`."""
    own = psutil.Process()
    unfinished = record.with_suffix(f".{own.pid}")
    with open(unfinished, "w", encoding="utf-8", opener=private) as out:
        json.dump({"pid": own.pid, "started": own.create_time(), "address": asdict(address)}, out)
    unfinished.replace(record)
