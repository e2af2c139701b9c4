"""Fine-tuning jobs that are created once: an existing job is found by its fingerprint, and used or waited for."""

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.core.records.requests import RequestNote
from finetune.provider.connect import Connection
from finetune.provider.create_once import LIST_LAG, Creation, Reserve, create_once, find_by_note
from finetune.provider.job_failures import is_temporary, job_error
from finetune.provider.locks import exclusive_lock
from finetune.provider.paging import all_rows
from finetune.provider.ready_model import is_new, lacks_model
from finetune.provider.request_notes import (
    forget,
    note_path,
    read_request_note,
    without_unclear_request,
    write_request_note,
)

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

FINGERPRINT = "finetune-fingerprint"  # the keys of a job's metadata
PROJECT = "finetune-project"
USD = "finetune-usd"  # the estimate, until there is a bill
ENDED = ("succeeded", "failed", "cancelled")
CLOCKS_DIFFER = 600  # seconds by which a job's created_at may be before the request
LIST_DELAY = 2.0  # seconds until a job that another machine created at the same time appears in the list

JobRequest = Mapping[str, Any]  # the arguments of the create call


def job_fingerprint(train_sha256: str, valid_sha256: str | None, settings: Mapping[str, Any]) -> str:
    """Return the identity of a fine-tune: SHA-256 of the data's hashes and of all settings, as canonical JSON."""
    identity = {"train": train_sha256, "valid": valid_sha256, **settings}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def ensure_job(
    connection: Connection,
    fingerprint: str,
    request: JobRequest,
    reserve: Reserve,
    say: Say,
    again: bool = False,
    command: str = "finetune train",
) -> "FineTuningJob":
    """Return the job of this fingerprint: an existing one in any state, or a new one.

    `reserve` is entered before a job is created; it may raise, and gives facts for the note. Raises FinetuneError for
    a job that failed for good, or whose model was deleted, unless `again` asks for a new one. With `again`, a job that
    has succeeded is trained again too. `command` is named in messages.
    """
    with exclusive_lock(connection.identity, fingerprint):
        creation = creation_of(connection, fingerprint, request, say, command)
        note = read_request_note(connection.identity, fingerprint)
        was_unclear = note is not None and "id" not in note
        noted = find_by_note(creation, note)
        again = again and not (was_unclear and noted)  # it is what the interrupted run has created
        jobs = list_jobs(connection, fingerprint, note)
        job = noted if noted and noted.status not in ENDED else best(connection, jobs)
        if job is not None:
            if job.status not in ENDED:
                say(f"Job {job.id} is already {job.status.replace('_', ' ')}; waiting for it.")
                return keep_oldest(connection, fingerprint, job, say)
            if job.status == "succeeded" and not again:
                refuse_missing_model(connection, job)
                say(f"Job {job.id} has trained with the same data and parameters; using its model. Nothing is paid.")
                return job
            if job.status == "failed" and not is_temporary(job) and not again:
                raise job_error(job)
            ended = {"cancelled": "was cancelled", "succeeded": "has succeeded"}.get(job.status, "failed")
            say(f"Job {job.id} {ended}; creating another.")
        known = [job.id for job in jobs]
        created = create_once(creation, partial(with_request, reserve, request), known)
        say(f"Job {created.id} created.")
        return keep_oldest(connection, fingerprint, created, say)


def creation_of(
    connection: Connection, fingerprint: str, request: JobRequest, say: Say, command: str
) -> "Creation[FineTuningJob]":
    """Return how the job of this fingerprint is created, and found by a note."""
    send = partial(connection.once.fine_tuning.jobs.create, **request)
    find = partial(find_noted, connection, fingerprint)
    is_ours = partial(is_answer_to, fingerprint, request)
    forgets = f"{command} --forget"
    return Creation(
        connection, fingerprint, "job", "fine_tuning.job", send, find, say, forgets=forgets, is_ours=is_ours
    )


def is_answer_to(fingerprint: str, request: JobRequest, job: "FineTuningJob") -> bool:
    """Return whether nothing in a job says that another request has made it."""
    shown = (job.metadata or {}).get(FINGERPRINT, fingerprint)
    return shown == fingerprint and job.training_file in (None, request.get("training_file"))


@contextmanager
def with_request(reserve: Reserve, request: JobRequest) -> Iterator[Mapping[str, Any]]:
    """Add the request to the facts of the note: on a server that drops the metadata, the job is known by it."""
    with reserve() as facts:
        yield {**facts, "request": request}


def best(connection: Connection, jobs: "list[FineTuningJob]") -> "FineTuningJob | None":
    """Return the most useful job: one whose model is there, one that has not ended, the newest of any other kind."""
    usable = (job for job in jobs if job.status == "succeeded" and not lacks_model(connection, job.fine_tuned_model))
    running = (job for job in jobs if job.status not in ENDED)
    gone = (job for job in jobs if job.status == "succeeded")
    return next(itertools.chain(usable, running, gone, jobs), None)


def refuse_missing_model(connection: Connection, job: "FineTuningJob") -> None:
    """Raise FinetuneError for a job whose model is no longer at the provider. That of a new job may come still."""
    model = job.fine_tuned_model
    if lacks_model(connection, model) and not is_new(connection, job):
        raise FinetuneError(
            f"Job {job.id} has trained with the same data and parameters, but its model {model} is no longer at the"
            " provider: it was deleted.",
            "Train it again with: finetune train --again (it costs again). Or go back to another commit's model.",
        )


def find(connection: Connection, fingerprint: str) -> "FineTuningJob | None":
    """Return the best job of this fingerprint."""
    return best(connection, list_jobs(connection, fingerprint, read_request_note(connection.identity, fingerprint)))


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


def age_of(job: "FineTuningJob") -> tuple[int, str]:
    """Return by what the oldest job is found; some servers do not say when a job was created."""
    return job.created_at or 0, job.id


def has_hyperparameters(job: "FineTuningJob", request: JobRequest) -> bool:
    """Return whether no hyperparameter that was asked for has another value in the job, which may show none."""
    kind = request["method"]["type"]
    method = getattr(job.method, kind, None) if job.method else None
    shown = (method and method.hyperparameters) or job.hyperparameters
    values = shown.model_dump() if shown else {}
    asked = request["method"][kind]["hyperparameters"]
    return all(values.get(name) in (None, "auto", value) for name, value in asked.items())


def keep_oldest(connection: Connection, fingerprint: str, job: "FineTuningJob", say: Say) -> "FineTuningJob":
    """Return the older of two jobs that two machines created at the same time; cancel the newer one, unbilled.

    The engine in the box needs no such check: all its clones are on this machine and share a lock.
    """
    if connection.identity == "local":
        return job
    time.sleep(LIST_DELAY)
    return older_twin(connection, fingerprint, say, job) or job


def older_twin(connection: Connection, fingerprint: str, say: Say, job: "FineTuningJob") -> "FineTuningJob | None":
    """Return the older job that another machine created at the same time as this one, which is cancelled then.

    A job that had ended before is none: this one was asked for in its place.
    """
    if job.created_at is None:  # on some servers: then nobody can say which job is the older one
        return None
    note = read_request_note(connection.identity, fingerprint)
    known = note["known"] if note else []
    jobs = [one for one in list_jobs(connection, fingerprint, note) if one.id not in known]
    oldest = min([job, *(other for other in jobs if is_twin(job, other))], key=age_of)
    if oldest.id == job.id:
        return None
    facts = note["facts"] if note else {}
    done = f"has ended: {job.status}"
    if connection.control.fine_tuning.jobs.retrieve(job.id).status not in ENDED:
        connection.control.fine_tuning.jobs.cancel(job.id)
        facts = {**facts, "unbilled": [*facts.get("unbilled", []), job.id]}
        done = "is cancelled"
    if note:
        write_request_note(connection.identity, fingerprint, {**note, "id": oldest.id, "facts": facts})
    say(f"Another machine created job {oldest.id} at the same time; using it. Job {job.id} {done}.")
    return oldest


def is_twin(job: "FineTuningJob", other: "FineTuningJob") -> bool:
    """Return whether another job of the fingerprint, which has not failed, went on when this one was created."""
    if job.created_at is None or other.created_at is None or other.status in ("failed", "cancelled"):
        return False
    if other.status not in ENDED:
        return True
    if other.finished_at:
        return other.finished_at > job.created_at
    return job.created_at - other.created_at < 2 * LIST_LAG


def late_twins(connection: Connection, fingerprint: str, say: Say) -> "Callable[[FineTuningJob], FineTuningJob | None]":
    """Return the function that finds the older twin of a job, to be called at each look at the job.

    While a list lags behind, each machine sees only its own job, and nobody knows for how long: the list is asked at
    each look while the job is young, and then once in LIST_LAG until the job ends.
    """
    asked_at = -math.inf

    def look(job: "FineTuningJob") -> "FineTuningJob | None":
        nonlocal asked_at
        now = connection.clock.now()
        is_young = now - (job.created_at or 0) <= LIST_LAG
        if connection.identity == "local" or not (is_young or now - asked_at >= LIST_LAG):
            return None
        asked_at = now
        return older_twin(connection, fingerprint, say, job)

    return look


def forget_request(connection: Connection, fingerprint: str) -> None:
    """Forget a request with an unclear outcome, because the user knows that it has made no job."""
    with exclusive_lock(connection.identity, fingerprint):
        note = read_request_note(connection.identity, fingerprint)
        if note and "id" not in note:
            forget(connection.identity, fingerprint)  # one of an earlier version lies elsewhere
            without_unclear_request(note_path(connection.identity, fingerprint), note)
