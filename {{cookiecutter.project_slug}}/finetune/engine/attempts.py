"""The folders of a job's attempts: each start of the trainer has its own, so that none writes into another's.

They are jobs/<job>/attempt-<number>. A new one takes the newest complete checkpoint from those before it, which are
then deleted. Whatever a trainer of theirs still does, for example on another machine, is ignored.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from finetune.engine import bases, launcher
from finetune.engine.api_errors import JobError
from finetune.engine.fingerprint import ADAPTER_FILES, check_adapter
from finetune.engine.schema import JobRow
from finetune.engine.store import Store
from finetune.engine.trainer_events import delete_reports_after
from finetune.engine.training.checkpoints import newest_complete_checkpoint, step_of
from finetune.engine.training.job_folder import (
    CHECKPOINTS,
    JOB,
    PARENT,
    PROCESSES,
    STOP,
    TRAINING,
    VALIDATION,
    Job,
    write_job,
)
from finetune.engine.worker_launcher import cores_of_a_job

PREPARE = """
import sys
from pathlib import Path
from finetune.engine import bases
bases.folder_of(sys.argv[1], Path(sys.argv[2]))
"""
END_SECONDS = 10  # that a killed process may take to end


def attempts_of(store: Store, job_id: str) -> list[Path]:
    """Return the folders of a job's attempts, oldest first."""
    return sorted(store.job_folder(job_id).glob("attempt-*"), key=number_of)


def number_of(attempt: Path) -> int:
    return int(attempt.name.rsplit("-", 1)[1])


def newest_attempt(store: Store, job_id: str) -> Path | None:
    """Return the newest attempt that was prepared to its end."""
    ready = [attempt for attempt in attempts_of(store, job_id) if (attempt / JOB).exists()]
    return ready[-1] if ready else None


def new_attempt(store: Store, job: JobRow, asked: launcher.Asked | None) -> Path:
    """Prepare the next attempt of a job, from its newest complete checkpoint, and return its folder.

    `asked` says how many processes the launcher is asked for.
    Raises JobError for a base, a file or a model that is gone or damaged.
    """
    before = attempts_of(store, job["id"])
    base_folder, weights = base_of(job["base"], store.home)
    attempt = store.job_folder(job["id"]) / f"attempt-{number_of(before[-1]) + 1 if before else 1}"
    (attempt / CHECKPOINTS).mkdir(parents=True, mode=0o700)
    link_or_copy(file_of_job(store, job["training_file"], "training_file"), attempt / TRAINING)
    if job["validation_file"]:
        link_or_copy(file_of_job(store, job["validation_file"], "validation_file"), attempt / VALIDATION)
    checkpoint = newest_complete_checkpoint(store.job_folder(job["id"]))
    if checkpoint:
        checkpoint.rename(attempt / CHECKPOINTS / checkpoint.name)
    elif parent := parent_adapter(store, job):
        (attempt / PARENT).mkdir()
        for name in ADAPTER_FILES:
            link_or_copy(parent / name, attempt / PARENT / name)
    delete_reports_after(store, job["id"], step_of(checkpoint) if checkpoint else 0)
    write_job(attempt, job_of(store, job, base_folder, weights, asked))
    for old in before:
        shutil.rmtree(old, ignore_errors=True)
    return attempt


def base_of(name: str, home: Path) -> tuple[Path, Path | None]:
    """Return a base's folder, and the GGUF file from which the trainer makes it if it is not there yet.

    Trainers of a launcher may run where that file is not: for them, the folder is made here.
    """
    if not launcher.is_set() and (weights := bases.unconverted_weights(name, home)):
        return bases.local_folder(name, home), weights
    if not bases.ready(name, home):  # a conversion needs torch, whose memory this process would keep
        subprocess.run([sys.executable, "-c", PREPARE, name, str(home)], check=False)
    return bases.folder_of(name, home), None


def job_of(store: Store, job: JobRow, base_folder: Path, weights: Path | None, asked: launcher.Asked | None) -> Job:
    """Return what the trainer is asked for."""
    return {
        "id": job["id"],
        "base": bases.short_name(job["base"]),
        "base_folder": str(base_folder),
        "base_weights": str(weights) if weights else None,
        "model": job["model"],
        "method": job["method"],
        "hyperparameters": hyperparameters_of(job),
        "seed": job["seed"],
        "dtype": job["dtype"],
        "threads": job["threads"],
        "cores": cores_of_a_job(),
        "processes": asked.processes if asked else None,
        "asked_by": asked.option if asked else None,
        "integrations": json.loads(job["integrations"] or "[]"),
        "integrations_folder": str(store.home),
    }


def hyperparameters_of(job: JobRow) -> dict[str, Any]:
    """Return a job's resolved hyperparameters. Raises TypeError for a damaged row: the defaults would train instead."""
    found = json.loads(job["resolved"] or "{}")
    if not isinstance(found, dict):
        raise TypeError("the hyperparameters of this job are not a JSON object")
    return found


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; on another file system, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def file_of_job(store: Store, file_id: str, param: str) -> Path:
    """Return the path of a job's file; `param` is the job's parameter that names it.

    Raises JobError if the file was deleted after the job was created, or is not what was uploaded.
    """
    row, path = store.kept_file(file_id), store.file_path(file_id)
    if row is None or not path.is_file():
        what = f"{param} {file_id!r} was deleted. Upload the file again and create another job."
        raise JobError("invalid_file", what, param)
    if store.is_damaged(path):
        what = f"{param} {file_id!r} is damaged: its content on the server's disk is not what was uploaded."
        raise JobError("invalid_file", f"{what} Upload the file again and create another job.", param)
    return path


def parent_adapter(store: Store, job: JobRow) -> Path | None:
    """Return the folder of the adapter that a job continues from; None if it starts from a base."""
    if job["base"] == job["model"]:
        return None
    parent = store.row("SELECT folder FROM models WHERE id = ?", job["model"])
    if parent is None:
        what = f"The model {job['model']!r}, which this job continues from, was deleted."
        raise JobError("model_not_found", what, "model")
    adapter = store.home / "models" / str(parent["folder"])
    check_adapter(store, adapter, job["model"])
    return adapter


def ask_to_stop(attempt: Path) -> None:
    """Ask the trainer of an attempt to save a checkpoint and to end."""
    (attempt / STOP).touch()


def end_processes(attempt: Path) -> None:
    """Kill the processes of an attempt on this machine, with those that they have started, and wait for their end.

    A process that starts later finds that it was asked to stop. One on another machine does so after its next step.
    """
    ask_to_stop(attempt)
    found: set[psutil.Process] = set()
    for path in (attempt / PROCESSES).glob("*"):
        with suppress(psutil.Error, ValueError, KeyError):
            note = json.loads(path.read_bytes())
            process = psutil.Process(note["pid"]) if note["host"] == socket.gethostname() else None
            if process and abs(process.create_time() - note["created"]) < 1:  # else another one has this ID by now
                found |= {process, *process.children(recursive=True)}
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=END_SECONDS)
