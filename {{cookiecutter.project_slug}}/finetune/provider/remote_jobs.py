"""Fine-tuning jobs that are created once: an existing job is found by its fingerprint, and used or waited for."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from finetune.core.callbacks import Say
from finetune.core.disk import read_note, write_json
from finetune.core.paths import NOTES
from finetune.core.records import JobNote
from finetune.provider.connect import Connection
from finetune.provider.create_once import create_once, wait_to_appear
from finetune.provider.job_failures import is_temporary, job_error
from finetune.provider.locks import exclusive_lock

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

FINGERPRINT = "finetune-fingerprint"  # the keys of a job's metadata
PROJECT = "finetune-project"
ENDED = ("succeeded", "failed", "cancelled")
LIST_DELAY = 2.0  # seconds until a job that another machine created at the same time appears in the list
NOTE_LASTS = 3600  # seconds: a job that has not appeared by then was never created

JobRequest = Mapping[str, Any]  # the arguments of the create call


def job_fingerprint(train_sha256: str, valid_sha256: str | None, settings: Mapping[str, Any]) -> str:
    """Return the identity of a fine-tune: SHA-256 of the data's hashes and of all settings, as canonical JSON."""
    identity = {"train": train_sha256, "valid": valid_sha256, **settings}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def ensure_job(
    connection: Connection, fingerprint: str, request: JobRequest, again: bool, say: Say, may_create: Callable[[], None]
) -> "FineTuningJob":
    """Return the job of this fingerprint: an existing one in any state, or a new one.

    `may_create` is called before a job is created, and may raise. Raises FinetuneError for a job that failed for good,
    unless `again` asks for a new one.
    """
    with exclusive_lock(connection.identity, fingerprint):
        job = find(connection, fingerprint, request)
        if job is None and was_requested_lately(fingerprint):
            say("An earlier run sent the request for this job and got no answer; checking whether the job exists.")
            job = wait_to_appear(lambda: find(connection, fingerprint, request))
        if job is not None:
            if job.status == "succeeded":
                say(f"Job {job.id} has trained with the same data and parameters; using its model. Nothing is paid.")
                return job
            if job.status not in ENDED:
                say(f"Job {job.id} is already {job.status.replace('_', ' ')}; waiting for it.")
                return job
            if job.status == "failed" and not is_temporary(job) and not again:
                raise job_error(job)
            say(f"Job {job.id} {'was cancelled' if job.status == 'cancelled' else 'failed'}; creating another.")
        may_create()
        return keep_oldest(connection, fingerprint, request, create(connection, fingerprint, request, say), say)


def find(
    connection: Connection, fingerprint: str, request: JobRequest, besides: frozenset[str] = frozenset()
) -> "FineTuningJob | None":
    """Return the best job of this fingerprint whose ID is not in `besides`."""
    jobs = [job for job in list_jobs(connection, fingerprint, request) if job.id not in besides]
    return max(jobs, key=rank, default=None)


def list_jobs(connection: Connection, fingerprint: str, request: JobRequest) -> "list[FineTuningJob]":
    """Return all jobs of this fingerprint, newest first."""
    jobs = connection.control.fine_tuning.jobs
    listed = (
        jobs.list(metadata={FINGERPRINT: fingerprint}, limit=100)
        if connection.profile.metadata
        else jobs.list(limit=100)
    )
    # Some servers ignore the filter, so the metadata is checked; some drop the metadata, so there is a note.
    return [job for job in listed if has_fingerprint(job, fingerprint) or matches_note(job, fingerprint, request)]


def has_fingerprint(job: "FineTuningJob", fingerprint: str) -> bool:
    """Return whether a job's metadata hold the fingerprint, or its suffix where a provider keeps no metadata."""
    if (job.metadata or {}).get(FINGERPRINT) == fingerprint:
        return True
    suffixes = (getattr(job, name, None) for name in ("suffix", "user_provided_suffix", "fine_tuned_model"))
    return any(isinstance(text, str) and fingerprint[:12] in text for text in suffixes)


def rank(job: "FineTuningJob") -> int:
    """Order jobs by use: one that succeeded, one that has not ended, one that failed or was cancelled."""
    return 2 if job.status == "succeeded" else 0 if job.status in ENDED else 1


def note_path(fingerprint: str) -> Path:
    """Return the path of the note that is written before the job is created."""
    return NOTES / f"{fingerprint}.json"


def read_job_note(fingerprint: str) -> JobNote:
    """Return this clone's note about the job; empty where there is none."""
    return cast("JobNote", read_note(note_path(fingerprint)))


def was_requested_lately(fingerprint: str) -> bool:
    """Return whether a run of this clone sent the request within NOTE_LASTS and ended before the answer came."""
    note = read_job_note(fingerprint)
    return "job" not in note and note.get("asked_at", 0) > time.time() - NOTE_LASTS


def matches_note(job: "FineTuningJob", fingerprint: str, request: JobRequest) -> bool:
    """Return whether a job without metadata is the one that this clone's note is about."""
    note = read_job_note(fingerprint)
    if job.metadata or not note:
        return False
    if "job" in note:
        return bool(note["job"] == job.id)
    same = all(getattr(job, key) == request.get(key) for key in ("training_file", "validation_file", "model", "seed"))
    return same and job.created_at >= note["asked_at"] - 60


def create(connection: Connection, fingerprint: str, request: JobRequest, say: Say) -> "FineTuningJob":
    """Create the job once.

    A note is written before. It stays where the outcome is unclear, gets the job's ID where it is known, and is removed
    where the provider has refused the request.
    """
    # The time is in no record; it distinguishes this request from an earlier one.
    note: JobNote = {"asked_at": int(time.time()), "request": dict(request)}
    path = note_path(fingerprint)
    known = frozenset(job.id for job in list_jobs(connection, fingerprint, request))
    write_json(path, note)
    job = create_once(
        lambda: connection.once.fine_tuning.jobs.create(**request),
        lambda: find(connection, fingerprint, request, known),
        "job",
        say,
        on_refusal=path.unlink,
    )
    write_json(path, {**note, "job": job.id})
    say(f"Job {job.id} created.")
    return job


def keep_oldest(
    connection: Connection, fingerprint: str, request: JobRequest, job: "FineTuningJob", say: Say
) -> "FineTuningJob":
    """Return the older of two jobs that two machines created at the same time; cancel the newer one, unbilled.

    The engine in the box needs no such check: all its clones are on this machine and share a lock.
    """
    if connection.identity == "local":
        return job
    time.sleep(LIST_DELAY)
    jobs = list_jobs(connection, fingerprint, request)
    usable = [other for other in jobs if other.status not in ("failed", "cancelled")]
    oldest = min(usable or [job], key=lambda one: (one.created_at, one.id))
    if oldest.id == job.id:
        return job
    if connection.control.fine_tuning.jobs.retrieve(job.id).status not in ENDED:
        connection.control.fine_tuning.jobs.cancel(job.id)
    new_note: JobNote = {"asked_at": int(time.time()), "request": dict(request), "job": oldest.id}
    write_json(note_path(fingerprint), new_note)
    say(f"Another machine created job {oldest.id} at the same time; waiting for it. Job {job.id} is cancelled.")
    return oldest
