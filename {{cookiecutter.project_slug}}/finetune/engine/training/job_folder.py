"""The folder of a job: all that passes between the trainer and the program that starts it.

In: `job.json`; `training.jsonl`; `validation.jsonl` if there is a validation file; `parent/`, an adapter, if training
continues from one; and checkpoints to resume from. Out: `events.jsonl`, one event a line, only appended to;
`checkpoints/`; and at the end `result.json`. Each process has a file in `processes/`. A file `stop` asks the trainer to
save a checkpoint and to end.
"""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

JOB, EVENTS, RESULT, STOP = "job.json", "events.jsonl", "result.json", "stop"
TRAINING, VALIDATION, PARENT = "training.jsonl", "validation.jsonl", "parent"
CHECKPOINTS, PROCESSES = "checkpoints", "processes"


class Job(TypedDict):
    """What to train: the content of `job.json`."""

    id: str
    base: str  # the name of the base model
    base_folder: str
    base_weights: str | None  # a GGUF file, from which the trainer makes the base's folder if it is not there yet
    model: str  # the base's name, or the name of the model in `parent/`
    method: str  # "supervised" or "dpo"
    hyperparameters: dict[str, Any]  # each a value, or `auto` or missing: the trainer's start event has the values
    seed: int
    dtype: str | None  # None: the best one of the device
    threads: int | None  # of each process; None: its share of `cores`
    cores: int | None  # for all processes on one machine; None: all that PyTorch uses
    processes: int | None  # that the launcher was asked for; None: any number
    asked_by: str | None  # the launcher's option with that number
    integrations: list[dict[str, Any]]
    integrations_folder: str  # for the files of their libraries


class Failure(TypedDict):
    """Why a job failed, as in the job's `error` object."""

    code: str
    message: str
    param: str | None


class Result(TypedDict):
    """How training ended: the content of `result.json`. `status` is succeeded, stopped or failed."""

    status: str
    trained_tokens: NotRequired[int]
    error: NotRequired[Failure]


class Stopped(Exception):
    """Raised when the trainer was asked to stop before it had trained a step."""


def read_job(folder: Path) -> Job:
    """Return what to train."""
    job: Job = json.loads((folder / JOB).read_bytes())
    return job


def write_job(folder: Path, job: Job) -> None:
    """Write `job.json`, whole or not at all."""
    unfinished = folder / f"{JOB}.unfinished"
    unfinished.write_text(json.dumps(job, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    unfinished.replace(folder / JOB)


def add_event(folder: Path, kind: str, **values: Any) -> None:
    """Append an event of the kind `started`, `step`, `checkpoint`, `warning` or `integrations`."""
    event = {"kind": kind, "created_at": int(time.time()), **values}
    with open(folder / EVENTS, "ab") as log:
        log.write(json.dumps(event).encode() + b"\n")
        log.flush()
        if kind == "checkpoint":  # who resumes from it relies on the events before it
            os.fsync(log.fileno())


def must_stop(folder: Path) -> bool:
    """Return whether the trainer was asked to stop, or its folder is gone because another trainer has its place."""
    return (folder / STOP).exists() or not (folder / JOB).exists()


def stop_if_asked(folder: Path) -> None:
    """Raise Stopped if the trainer was asked to stop."""
    if must_stop(folder):
        raise Stopped


def write_result(folder: Path, result: Result) -> None:
    """Write `result.json`, unless another process of the trainer has written it."""
    own = folder / f"{RESULT}.{socket.gethostname()}.{os.getpid()}"
    own.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if not (folder / RESULT).exists():
        own.replace(folder / RESULT)
    own.unlink(missing_ok=True)


def read_result(folder: Path) -> Result | None:
    """Return how training ended, or None."""
    try:
        result: Result = json.loads((folder / RESULT).read_bytes())
    except FileNotFoundError:
        return None
    return result


def register_process(folder: Path, pid: int | None = None, name: str | None = None) -> None:
    """Note a process, by default this one, so that it can be found and ended without its parent."""
    import psutil

    process = psutil.Process(pid)
    (folder / PROCESSES).mkdir(exist_ok=True)
    note = {"host": socket.gethostname(), "pid": process.pid, "created": process.create_time()}
    path = folder / PROCESSES / (name or f"{socket.gethostname()}.{process.pid}")
    path.write_text(json.dumps(note), encoding="utf-8")
