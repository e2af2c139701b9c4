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

from finetune.engine.client_text import without_paths
from finetune.engine.store import TEMPORARY, Store, private

# Seconds that a new worker may need until it holds the lock. No second worker is started in that time.
STARTUP_SECONDS = 10
MAX_FAILED_STARTS = 3  # of workers that ended with an error before they ran a line of this engine
last_started: dict[Path, "subprocess.Popen[bytes]"] = {}  # by home: the last worker that this process started


def training_lock(home: Path) -> FileLock:
    """Return the lock of the one process that trains. The operating system releases it when that process dies."""
    return FileLock(home / "train.lock", mode=0o600)


def ensure_worker(store: Store) -> None:
    """Start a worker if a job waits and no worker runs: after a kill, a crash or a restart of the machine."""
    if not store.has_unfinished():
        return
    try:
        with training_lock(store.home).acquire(timeout=0):
            pass
    except Timeout:
        return
    started = note(store, "spawned")
    if abs(time.time() - started) > STARTUP_SECONDS:  # the clock may have been set back
        count_failed_start(store, started)
        if store.has_unfinished():
            start_worker(store)


def note(store: Store, key: str) -> float:
    row = store.row("SELECT value FROM notes WHERE key = ?", key)
    return float(row["value"]) if row else 0.0


def set_note(store: Store, key: str, value: float) -> None:
    store.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", key, value)


def has_begun(store: Store) -> None:
    """Note that a worker runs: its launcher and its imports work."""
    set_note(store, "failed_starts", 0)
    set_note(store, "begun", time.time())


def count_failed_start(store: Store, started: float) -> None:
    """Fail the jobs that wait if the last workers ended with an error before they began."""
    process = last_started.pop(store.home, None)
    if process and process.poll() and note(store, "begun") < started:
        failed = note(store, "failed_starts") + 1
        set_note(store, "failed_starts", failed)
        if failed >= MAX_FAILED_STARTS:
            set_note(store, "failed_starts", 0)
            end = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
            fail_waiting_jobs(store, f"it ended at once, {MAX_FAILED_STARTS} times, with {end}: {last_line(store)}")


def last_line(store: Store) -> str:
    """Return the last line of the workers' log, which often is an error."""
    with open(store.home / "worker.log", "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        lines = log.read().decode("utf-8", "replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing.")


def fail_waiting_jobs(store: Store, why: str) -> None:
    """End the jobs that have not begun to train: no worker can be started. Those with checkpoints wait for one."""
    has_launcher = os.environ.get("FINETUNE_ENGINE_LAUNCHER")
    remedy = " Correct FINETUNE_ENGINE_LAUNCHER, the command that starts it on the server." if has_launcher else ""
    message = f"The worker process cannot be started: {without_paths(why)}{remedy}"
    for job in store.unfinished():
        if job["threads"] is None:
            store.end_job(job["id"], "failed", "server_error", message)


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
        folder.parent.mkdir(exist_ok=True, mode=0o700)
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
    """Start a worker. If that is not possible, the jobs that wait fail with the reason."""
    set_note(store, "spawned", time.time())
    try:
        last_started[store.home] = start_process(store)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in TEMPORARY:
            fail_waiting_jobs(store, f"{error}.")


def start_process(store: Store) -> "subprocess.Popen[bytes]":
    """Start a worker in its own session, so that it survives Ctrl-C and the end of this process.

    FINETUNE_ENGINE_LAUNCHER replaces the interpreter that starts it, for example by
    `accelerate launch --num_processes 4`.
    """
    launcher = shlex.split(os.environ.get("FINETUNE_ENGINE_LAUNCHER", "")) or [sys.executable]
    # A worker needs no API key but that of the service that gets a job's metrics. The hash seed is fixed because it
    # decides the order of sets.
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_KEY") or name == "WANDB_API_KEY"
    }
    code = str(copy_of_code(store.home))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    environment["PYTHONHASHSEED"] = "0"
    with open(store.home / "worker.log", "ab", opener=private) as log:
        return subprocess.Popen(
            [*launcher, "-m", "finetune.engine.training.worker", str(store.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=store.home,
            env=environment,
            start_new_session=True,
        )
