"""Find the jobs of a fingerprint: by their metadata or suffix, or by the note of the request that made them."""

import itertools
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from finetune.core.records.requests import RequestNote
from finetune.provider.connect import Connection
from finetune.provider.paging import all_rows
from finetune.provider.ready_model import lacks_model
from finetune.provider.request_notes import read_request_note

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

FINGERPRINT = "finetune-fingerprint"  # the keys of a job's metadata
PROJECT = "finetune-project"
USD = "finetune-usd"  # the estimate, until there is a bill
ENDED = ("succeeded", "failed", "cancelled")
CLOCKS_DIFFER = 600  # seconds by which a job's created_at may be before the request
JobRequest = Mapping[str, Any]  # the arguments of the create call


def find(connection: Connection, fingerprint: str) -> "FineTuningJob | None":
    """Return the best job of this fingerprint."""
    return best(connection, list_jobs(connection, fingerprint, read_request_note(connection.identity, fingerprint)))


def best(connection: Connection, jobs: "list[FineTuningJob]") -> "FineTuningJob | None":
    """Return the most useful job: one whose model is there, one that has not ended, the newest of any other kind."""
    usable = (job for job in jobs if job.status == "succeeded" and not lacks_model(connection, job.fine_tuned_model))
    running = (job for job in jobs if job.status not in ENDED)
    gone = (job for job in jobs if job.status == "succeeded")
    return next(itertools.chain(usable, running, gone, jobs), None)


def find_noted(connection: Connection, fingerprint: str, note: RequestNote) -> "FineTuningJob | None":
    """Return the job that the request of a note has made; the oldest, if it has made several."""
    jobs = [job for job in list_jobs(connection, fingerprint, note) if job.id not in note["known"]]
    noted = (job for job in jobs if job.id == note.get("id"))
    return next(noted, None) or min(jobs, key=age_of, default=None)


def list_jobs(connection: Connection, fingerprint: str, note: RequestNote | None) -> "list[FineTuningJob]":
    """Return all jobs of this fingerprint, newest first; the job of the note even where the list lags behind."""
    import openai

    jobs = connection.control.fine_tuning.jobs
    listed = all_rows(
        jobs.list(metadata={FINGERPRINT: fingerprint}, limit=100)
        if connection.profile.metadata
        else jobs.list(limit=100)
    )
    # Some servers ignore the filter, so the metadata is checked; some drop the metadata, so there is a note.
    found = [job for job in listed if has_fingerprint(job, fingerprint) or (note and is_noted(job, note))]
    if note and "id" in note and note["id"] not in {job.id for job in found}:
        with suppress(openai.NotFoundError):
            found.insert(0, jobs.retrieve(note["id"]))
    return found


def has_fingerprint(job: "FineTuningJob", fingerprint: str) -> bool:
    """Return whether a job's metadata hold the fingerprint, or its suffix where a provider keeps no metadata."""
    if (job.metadata or {}).get(FINGERPRINT) == fingerprint:
        return True
    suffixes = (getattr(job, name, None) for name in ("suffix", "user_provided_suffix", "fine_tuned_model"))
    return any(isinstance(text, str) and fingerprint[:12] in text for text in suffixes)


def is_noted(job: "FineTuningJob", note: RequestNote) -> bool:
    """Return whether a job without metadata is what the request of a note has made."""
    request = note["facts"].get("request")
    if job.metadata or not request or job.id in note["known"]:
        return False
    if "id" in note:
        return note["id"] == job.id
    same = all(getattr(job, key) == request.get(key) for key in ("training_file", "validation_file"))
    same &= str(job.model).startswith(request["model"])  # the job may show the dated name of an alias
    same &= job.seed in (None, request.get("seed"))
    is_late = job.created_at is None or job.created_at >= note["asked_at"] - CLOCKS_DIFFER
    return same and is_late and has_hyperparameters(job, request)


def has_hyperparameters(job: "FineTuningJob", request: JobRequest) -> bool:
    """Return whether no hyperparameter that was asked for has another value in the job, which may show none."""
    kind = request["method"]["type"]
    method = getattr(job.method, kind, None) if job.method else None
    shown = (method and method.hyperparameters) or job.hyperparameters
    values = shown.model_dump() if shown else {}
    asked = request["method"][kind]["hyperparameters"]
    return all(values.get(name) in (None, "auto", value) for name, value in asked.items())


def age_of(job: "FineTuningJob") -> tuple[int, str]:
    """Return by what the oldest job is found; some servers do not say when a job was created."""
    return job.created_at or 0, job.id
