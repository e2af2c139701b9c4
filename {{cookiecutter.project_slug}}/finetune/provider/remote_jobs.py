"""Fine-tuning jobs that are created once: an existing job of the fingerprint is used or waited for."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.provider.connect import Connection
from finetune.provider.create_once import Creation, Reserve, create_once, find_by_note
from finetune.provider.find_jobs import ENDED, FINGERPRINT, JobRequest, best, find_noted, list_jobs
from finetune.provider.job_failures import is_temporary, job_error
from finetune.provider.locks import exclusive_lock
from finetune.provider.ready_model import is_new, lacks_model
from finetune.provider.request_notes import forget, note_path, read_request_note, without_unclear_request
from finetune.provider.twin_jobs import keep_oldest

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


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


def refuse_missing_model(connection: Connection, job: "FineTuningJob") -> None:
    """Raise FinetuneError for a job whose model is no longer at the provider. That of a new job may come still."""
    model = job.fine_tuned_model
    if lacks_model(connection, model) and not is_new(connection, job):
        raise FinetuneError(
            f"Job {job.id} has trained with the same data and parameters, but its model {model} is no longer at the"
            " provider: it was deleted.",
            "Train it again with: finetune train --again (it costs again). Or go back to another commit's model.",
        )


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


def forget_request(connection: Connection, fingerprint: str) -> None:
    """Forget a request with an unclear outcome, because the user knows that it has made no job."""
    with exclusive_lock(connection.identity, fingerprint):
        note = read_request_note(connection.identity, fingerprint)
        if note and "id" not in note:
            forget(connection.identity, fingerprint)  # one of an earlier version lies elsewhere
            without_unclear_request(note_path(connection.identity, fingerprint), note)
