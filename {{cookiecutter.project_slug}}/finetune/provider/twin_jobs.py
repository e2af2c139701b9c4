"""Keep one of the jobs that several machines created at the same time."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from finetune.core.callbacks import Say
from finetune.provider.connect import Connection
from finetune.provider.create_once import LIST_LAG
from finetune.provider.find_jobs import ENDED, age_of, list_jobs
from finetune.provider.request_notes import read_request_note, write_request_note

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

LIST_DELAY = 2.0  # seconds until a job that another machine created at the same time appears in the list


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
