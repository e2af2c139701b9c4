"""The workers, which train: how many may do so at once, the locks that they hold, and when they are started."""

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from finetune.engine import launcher
from finetune.engine.client_text import without_paths
from finetune.engine.home import private
from finetune.engine.os_errors import TEMPORARY
from finetune.engine.schema import JobRow
from finetune.engine.store import Store

# Seconds that a new worker may need until it holds a lock. No second worker is started in that time.
STARTUP_SECONDS = 10
SETTINGS = ("FINETUNE_ENGINE_", "WANDB_")  # the variables that begin with these, but for keys


class Slot(NamedTuple):
    """The right to train one job beside those of other slots. Its lock is held."""

    number: int
    lock: FileLock


def settings() -> dict[str, str]:
    """Return the settings of this process that decide how jobs are trained. A key is never written to the disk."""
    return {
        name: value for name, value in os.environ.items() if name.startswith(SETTINGS) and not name.endswith("_KEY")
    }


def save_settings(home: Path) -> None:
    """Keep this server's settings for the workers, also for one that runs already."""
    unfinished = home / f"worker.json.{os.getpid()}.{threading.get_ident()}"
    with open(unfinished, "w", encoding="utf-8", opener=private) as out:
        json.dump(settings(), out, sort_keys=True)
    unfinished.replace(home / "worker.json")


def load_settings(home: Path) -> None:
    """Take over the settings of the server that started a worker last."""
    with suppress(FileNotFoundError):
        found = json.loads((home / "worker.json").read_bytes())
        for name in settings():
            del os.environ[name]
        os.environ.update(found)


def visible_devices() -> list[str]:
    """Return the CUDA devices of this process, without torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]


def jobs_at_once() -> int:
    """Return how many jobs train at once: those that were asked for, else as many as the devices suffice for."""
    if asked := os.environ.get("FINETUNE_ENGINE_JOBS"):
        return int(asked)
    try:
        processes = launcher.asked_processes(launcher.words())
    except ValueError:  # the job ends with this reason
        processes = None
    return max(1, len(visible_devices()) // (processes.processes if processes else 1))


def devices_of(slot: int) -> dict[str, str]:
    """Return the environment that gives a slot its share of the devices."""
    devices, slots = visible_devices(), jobs_at_once()
    own = devices[slot::slots] or devices[slot % len(devices) :][:1] if devices else []
    return {"CUDA_VISIBLE_DEVICES": ",".join(own)} if own and slots > 1 else {}


def cores_of_a_job() -> int | None:
    """Return how many threads a job may have; None for as many as PyTorch uses."""
    if threads := os.environ.get("FINETUNE_ENGINE_THREADS"):
        return int(threads)
    slots = jobs_at_once()
    return None if slots == 1 else max(1, (os.cpu_count() or 1) // slots)


def slot_lock(home: Path, number: int) -> FileLock:
    return FileLock(home / (f"train-{number}.lock" if number else "train.lock"), mode=0o600)


def free_slot(home: Path, seconds: float = 0) -> Slot | None:
    """Take the lock of a free slot. The operating system releases it when this process dies."""
    end = time.monotonic() + seconds
    while True:
        for number in range(jobs_at_once()):
            lock = slot_lock(home, number)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return Slot(number, lock)
        if time.monotonic() >= end:
            return None
        time.sleep(0.02)


def job_lock(store: Store, job_id: str) -> FileLock:
    """Return the lock of the one worker that validates or trains a job."""
    return FileLock(store.job_folder(job_id) / "lock", mode=0o600)


def free_jobs(store: Store) -> list[JobRow]:
    """Return the unfinished jobs that no worker works on, in the order of their turns."""
    return list(iterate_free_jobs(store))


def iterate_free_jobs(store: Store) -> Iterator[JobRow]:
    for job in store.unfinished():
        try:
            with job_lock(store, job["id"]).acquire(timeout=0):
                pass
        except Timeout:
            continue
        yield job


def ensure_worker(store: Store) -> None:
    """Start a worker if a job waits and a slot is free: after a kill, a crash or a restart of the machine."""
    if not store.has_unfinished():
        return
    slot = free_slot(store.home)
    if slot is None:
        return
    slot.lock.release()
    row = store.row("SELECT value FROM notes WHERE key = 'spawned'")
    started = float(row["value"]) if row else 0.0
    # The clock may have been set back.
    if abs(time.time() - started) > STARTUP_SECONDS and next(iterate_free_jobs(store), None):
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
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        incomplete = home / "code" / f"{digest}.{os.getpid()}.{threading.get_ident()}"
        try:
            for name, content in contents.items():
                (incomplete / name).parent.mkdir(parents=True, exist_ok=True)
                (incomplete / name).write_bytes(content)
            incomplete.rename(folder)
        except OSError:
            shutil.rmtree(incomplete, ignore_errors=True)
            if not folder.exists():  # else another process has copied it
                raise
    return folder


def start_worker(store: Store) -> None:
    """Start a worker. If that is not possible, the jobs that wait fail with the reason."""
    store.execute("INSERT OR REPLACE INTO notes VALUES ('spawned', ?)", time.time())
    try:
        save_settings(store.home)
        start_process(store)
    except OSError as error:
        if error.errno not in TEMPORARY:
            message = f"The worker process cannot be started: {without_paths(str(error))}."
            for job in store.unfinished():
                if job["threads"] is None:  # those with checkpoints wait for one
                    store.end_job(job["id"], "failed", "server_error", message)


def start_process(store: Store) -> None:
    """Start a worker, which survives Ctrl-C and the end of this process."""
    code = str(copy_of_code(store.home))
    launcher.start(
        store.home,
        [sys.executable, "-m", "finetune.engine.worker", str(store.home)],
        PYTHONPATH=os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")])),
        PYTHONHASHSEED="0",  # it decides the order of sets
    )
