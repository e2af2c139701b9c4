"""Train one job: start the launcher, follow the trainer, and end the job by its result."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from finetune.engine import launcher
from finetune.engine.api_errors import JobError
from finetune.engine.attempts import ask_to_stop, end_processes, new_attempt, newest_attempt
from finetune.engine.client_text import without_paths
from finetune.engine.os_errors import TEMPORARY
from finetune.engine.publishing import finish_job
from finetune.engine.schema import JobRow
from finetune.engine.store import UNFINISHED, Store
from finetune.engine.trainer_events import read_events
from finetune.engine.training.job_folder import PROCESSES, Result, read_result, register_process

POLL_SECONDS = 0.05
STOP_SECONDS = {"paused": 300.0}  # that a step and the checkpoint after it may take
CANCEL_SECONDS = 10.0  # nobody needs the checkpoint of a cancelled job
LEAVE_SECONDS = 5.0  # that a launcher may take to end after the result
MAX_STARTS = 10  # of a trainer without a checkpoint between them; then the cause is the job, not the machine
MAX_FAILED_STARTS = 3  # likewise, of a launcher that ended before it started a trainer
DIED = (
    f"The training process died {MAX_STARTS} times before it reached a checkpoint: it crashed, or the system killed it,"
    " often for lack of memory. The file worker.log in the server's FINETUNE_HOME says more."
)
LAUNCHER = "launcher"  # its file among those of the trainer's processes


def count_start(store: Store, job: JobRow) -> int:
    """Count a start of work on a job, and return the count. Raises JobError if too many processes died of it."""
    if job["starts"] >= MAX_STARTS:
        raise JobError("server_error", DIED)
    store.execute("UPDATE jobs SET starts = starts + 1 WHERE id = ?", job["id"])
    return job["starts"] + 1


def run_job(store: Store, job: JobRow, environment: dict[str, str]) -> None:
    """Train a job until it ends, is stopped, or its trainer dies. What an earlier worker began is taken over.

    Raises JobError if the job cannot be trained.
    """
    if before := newest_attempt(store, job["id"]):
        end_processes(before)
        read_events(store, job, before)
        result = read_result(before)
        if result and result["status"] != "stopped":
            end(store, job, result)
            return
        job = store.job(job["id"]) or job
    starts = count_start(store, job)
    try:
        asked = launcher.asked_processes(launcher.words())
    except ValueError as error:
        raise cannot_start(f"{error}.") from error
    attempt = new_attempt(store, job, asked)
    process = start(store, attempt, environment)
    if process is None:
        return
    try:
        result = follow(store, job, attempt, process)
        if result:
            end(store, job, result)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE_SECONDS)
    finally:
        end_processes(attempt)
        process.wait()
    has_begun = any(path.name != LAUNCHER for path in (attempt / PROCESSES).iterdir())
    if not result and not has_begun and starts >= MAX_FAILED_STARTS:
        code = process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise cannot_start(f"it ended {MAX_FAILED_STARTS} times, with {how}: {launcher.last_line(store.home)}")


def start(store: Store, attempt: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes] | None":
    """Start the launcher; None if the machine has no room now. Raises JobError if there is no such command."""
    try:
        process = launcher.start(store.home, launcher.command(attempt), **environment)
    except OSError as error:
        if error.errno in TEMPORARY:
            return None
        raise cannot_start(f"{error}.") from error
    with suppress(psutil.Error):  # it may have ended
        register_process(attempt, process.pid, LAUNCHER)
    return process


def cannot_start(why: str) -> JobError:
    remedy = " Correct FINETUNE_ENGINE_LAUNCHER, the command that starts it on the server." if launcher.is_set() else ""
    return JobError("server_error", f"The training process cannot be started: {without_paths(why)}{remedy}")


def follow(store: Store, job: JobRow, attempt: Path, process: "subprocess.Popen[bytes]") -> Result | None:
    """Report what the trainer does until it ends, and return its result; None if it died or was killed.

    It is asked to stop when the job is cancelled or paused.
    """
    stop_by = None
    while True:
        has_ended = process.poll() is not None
        read_events(store, job, attempt)
        if (result := read_result(attempt)) or has_ended:
            read_events(store, job, attempt)  # those between the last look and the result
            return result
        row = store.job(job["id"])
        if row is None or row["status"] not in UNFINISHED:
            if stop_by is None:
                ask_to_stop(attempt)
                stop_by = time.monotonic() + STOP_SECONDS.get(row["status"] if row else "", CANCEL_SECONDS)
            elif time.monotonic() > stop_by:
                return None
        elif row["status"] == "queued" and row["threads"] is not None and stop_by is None:
            store.set_job_status(job["id"], "running")  # paused and resumed before this was noticed
        time.sleep(POLL_SECONDS)


def end(store: Store, job: JobRow, result: Result) -> None:
    """End a job by its result. Raises JobError if training failed. A job that was stopped keeps its status."""
    if "error" in result:
        error = result["error"]
        raise JobError(error["code"], error["message"], error["param"])
    if result["status"] == "succeeded":
        finish_job(store, job["id"], result["trained_tokens"])
