"""The worker process that trains: the lock that it holds, and when and how it is started."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from finetune.engine.store import Store

# Seconds that a new worker may need until it holds the lock. No second worker is started in that time.
STARTUP_SECONDS = 10


def training_lock(home: Path) -> FileLock:
    """Return the lock of the one process that trains. The operating system releases it when that process dies."""
    return FileLock(home / "train.lock", mode=0o600)


def ensure_worker(store: Store) -> None:
    """Start a worker if a job waits and no worker runs: after a kill, a crash or a restart of the machine."""
    if not store.unfinished():
        return
    try:
        with training_lock(store.home).acquire(timeout=0):
            pass
    except Timeout:
        return
    started = store.row("SELECT value FROM notes WHERE key = 'spawned'")
    if started is None or time.time() - started["value"] > STARTUP_SECONDS:
        start_worker(store)


def start_worker(store: Store) -> None:
    """Start a worker in its own session, so that it survives Ctrl-C and the end of this process.

    FINETUNE_ENGINE_LAUNCHER replaces the interpreter that starts it, for example by
    `accelerate launch --num_processes 4`.
    """
    launcher = shlex.split(os.environ.get("FINETUNE_ENGINE_LAUNCHER", "")) or [sys.executable]
    # A worker needs no API key, so it gets none. The hash seed is fixed because it decides the order of sets.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    package_root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    environment["PYTHONHASHSEED"] = "0"
    store.execute("INSERT OR REPLACE INTO notes VALUES ('spawned', ?)", time.time())
    with open(store.home / "worker.log", "ab") as log:
        subprocess.Popen(
            [*launcher, "-m", "finetune.engine.training.worker", str(store.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=store.home,
            env=environment,
            start_new_session=True,
        )
