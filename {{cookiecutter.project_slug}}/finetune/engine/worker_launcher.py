"""The worker process that trains: the lock that it holds, and when and how it is started."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
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


def copy_of_code(home: Path) -> Path:
    """Copy the engine's code into the state, once for each version, and return the folder to import it from.

    A worker outlives the process that starts it, and starts the next one. Its project may be a workspace of DVC's
    experiments, which is deleted when the experiment ends, or be changed while the job waits.
    """
    package = Path(__file__).resolve().parents[1]
    files = [package / "__init__.py", *sorted((package / "engine").rglob("*.py"))]
    contents = {file.relative_to(package.parent): file.read_bytes() for file in files}
    digest = hashlib.sha256(repr(contents).encode()).hexdigest()[:16]
    folder = home / "code" / digest
    if not folder.exists():
        incomplete = home / "code" / f"{digest}.{os.getpid()}.{threading.get_ident()}"
        for name, content in contents.items():
            (incomplete / name).parent.mkdir(parents=True, exist_ok=True)
            (incomplete / name).write_bytes(content)
        try:
            incomplete.rename(folder)
        except OSError:  # another process has copied it
            shutil.rmtree(incomplete)
    return folder


def start_worker(store: Store) -> None:
    """Start a worker in its own session, so that it survives Ctrl-C and the end of this process.

    FINETUNE_ENGINE_LAUNCHER replaces the interpreter that starts it, for example by
    `accelerate launch --num_processes 4`.
    """
    launcher = shlex.split(os.environ.get("FINETUNE_ENGINE_LAUNCHER", "")) or [sys.executable]
    # A worker needs no API key, so it gets none. The hash seed is fixed because it decides the order of sets.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    code = str(copy_of_code(store.home))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
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
