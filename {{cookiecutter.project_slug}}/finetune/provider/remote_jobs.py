"""Fine-tuning jobs that are created once: looked for by fingerprint, adopted, attached to, and only then created."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.core.callbacks import Say
from finetune.core.disk import read_note, write_json
from finetune.core.paths import NOTES
from finetune.provider.connect import FINAL, Connection
from finetune.provider.job_failures import failure, may_pass
from finetune.provider.locks import alone

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

FINGERPRINT = "finetune-fingerprint"  # the keys of a job's metadata
PROJECT = "finetune-project"
ENDED = ("succeeded", "failed", "cancelled")
LOOKS = (1, 2, 4, 8, 16)  # seconds before each look for a job whose creation got no answer
SETTLE = 2.0  # seconds until a job that somebody else created at the same moment shows in the list
NOTE_LASTS = 3600  # seconds: a job that has not appeared by then was never created

Wanted = Mapping[str, Any]


def fingerprint(train_sha256: str, valid_sha256: str | None, ask: Wanted) -> str:
    """What makes two fine-tunes one: SHA-256 of the data's hashes and of all that is asked, as canonical JSON."""
    identity = {"train": train_sha256, "valid": valid_sha256, **ask}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def ensure_job(
    connection: Connection, mark: str, request: Wanted, again: bool, say: Say, may_create: Callable[[], None]
) -> "FineTuningJob":
    """The one job of this fingerprint: there already in whatever state, or created now.

    `may_create` is called before a job is created, and may raise. With `again`, a job that failed for good is left
    aside and a new one created. Raises FinetuneError for such a job otherwise.
    """
    with alone(connection.identity, mark):
        job = find(connection, mark, request)
        if job is None and asked_lately(mark):
            say("A former run asked for this job and got no answer: looking whether it is there.")
            job = look(connection, mark, request, set())
        if job is not None:
            if job.status == "succeeded":
                say(f"Job {job.id} has trained just this already: adopted, nothing is paid.")
                return job
            if job.status not in ENDED:
                say(f"Job {job.id} is at it already ({job.status}): attached.")
                return job
            if job.status == "failed" and not may_pass(job) and not again:
                raise failure(job)
            say(f"Job {job.id} {job.status}: creating another.")
        may_create()
        return settle(connection, mark, request, create_once(connection, mark, request, say), say)


def find(connection: Connection, mark: str, request: Wanted) -> "FineTuningJob | None":
    """The best job of this fingerprint: one that succeeded before one under way before one that ended otherwise."""
    return max(of_mark(connection, mark, request), key=rank, default=None)


def of_mark(connection: Connection, mark: str, request: Wanted) -> "list[FineTuningJob]":
    """Every job of this fingerprint, the newest first."""
    jobs = connection.control.fine_tuning.jobs
    listed = jobs.list(metadata={FINGERPRINT: mark}, limit=100) if connection.profile.metadata else jobs.list(limit=100)
    # Some servers ignore the filter, some drop the metadata: the first is checked, for the second there is a note.
    return [job for job in listed if bears(mark, job) or noted(mark, job, request)]


def bears(mark: str, job: "FineTuningJob") -> bool:
    """Whether a job is marked, in its metadata or, where a provider keeps none, in its suffix."""
    if (job.metadata or {}).get(FINGERPRINT) == mark:
        return True
    suffixes = (getattr(job, name, None) for name in ("suffix", "user_provided_suffix", "fine_tuned_model"))
    return any(isinstance(text, str) and mark[:12] in text for text in suffixes)


def rank(job: "FineTuningJob") -> int:
    return 2 if job.status == "succeeded" else 0 if job.status in ENDED else 1


def note_of(mark: str) -> Path:
    return NOTES / f"{mark}.json"


def asked_lately(mark: str) -> bool:
    """Whether a former run of this clone asked for the job, and ended before it had an answer."""
    note = read_note(note_of(mark))
    return "job" not in note and note.get("asked_at", 0) > time.time() - NOTE_LASTS


def noted(mark: str, job: "FineTuningJob", request: Wanted) -> bool:
    """Whether a job without metadata is the one that the note of a former run is about."""
    note = read_note(note_of(mark))
    if job.metadata or not note:
        return False
    if "job" in note:
        return bool(note["job"] == job.id)
    same = all(getattr(job, key) == request.get(key) for key in ("training_file", "validation_file", "model", "seed"))
    return same and job.created_at >= note["asked_at"] - 60


def create_once(connection: Connection, mark: str, request: Wanted, say: Say) -> "FineTuningJob":
    """Create the job; where the answer is lost, look for it before anybody asks again.

    A request that came too soon after others is refused without effect, so it is sent again after the time that the
    provider names.
    """
    import openai

    # The clock of this note never reaches a record; it only tells this asking from an older one.
    note = {"asked_at": int(time.time()), "request": dict(request)}
    before = {job.id for job in of_mark(connection, mark, request)}
    write_json(note_of(mark), note)
    for pause in (*LOOKS, None):
        try:
            job = connection.once.fine_tuning.jobs.create(**request)
        except openai.RateLimitError as error:
            if error.code in FINAL or pause is None:
                note_of(mark).unlink()
                raise
            wait = float(error.response.headers.get("retry-after") or pause)
            say(f"The provider asks to wait: creating the job in {wait:.0f} s.")
            time.sleep(wait)
            continue
        except (openai.APIConnectionError, openai.InternalServerError, openai.ConflictError) as error:
            say(f"No clear answer to the creation ({type(error).__name__}): looking whether the job is there.")
            found = look(connection, mark, request, before)
            if found is None:
                raise
            job = found
        except openai.APIStatusError:  # refused, so nothing was created
            note_of(mark).unlink()
            raise
        write_json(note_of(mark), {**note, "job": job.id})
        say(f"Job {job.id} created.")
        return job
    raise AssertionError("the last pause is None")


def look(connection: Connection, mark: str, request: Wanted, before: set[str]) -> "FineTuningJob | None":
    """A job of this fingerprint that is not among `before`, looked for with growing patience."""
    import openai

    for pause in LOOKS:
        time.sleep(pause)
        try:
            new = [job for job in of_mark(connection, mark, request) if job.id not in before]
        except (openai.APIConnectionError, openai.InternalServerError):
            continue
        if new:
            return max(new, key=rank)
    return None


def settle(connection: Connection, mark: str, request: Wanted, job: "FineTuningJob", say: Say) -> "FineTuningJob":
    """The elder of two jobs that two machines created at the same moment; the younger is cancelled unbilled.

    The engine in the box needs no such look: its clones are on this machine, and waited for each other.
    """
    if connection.identity == "local":
        return job
    time.sleep(SETTLE)
    alive = [other for other in of_mark(connection, mark, request) if other.status not in ("failed", "cancelled")]
    eldest = min(alive or [job], key=lambda one: (one.created_at, one.id))
    if eldest.id == job.id:
        return job
    if connection.control.fine_tuning.jobs.retrieve(job.id).status not in ENDED:
        connection.control.fine_tuning.jobs.cancel(job.id)
    write_json(note_of(mark), {"asked_at": int(time.time()), "request": dict(request), "job": eldest.id})
    say(f"Job {eldest.id} was created elsewhere at the same moment: attached to it, {job.id} cancelled.")
    return eldest


def follow(
    connection: Connection,
    job: "FineTuningJob",
    progress: Callable[[int, int, str], None],
    say: Say,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> "FineTuningJob":
    """Look at the job until it ends; `progress(step, total, message)` hears of each new step.

    Statuses that nobody knows are waited for like `running`. Raises FinetuneError when it ends without a model.
    """
    import openai

    jobs = connection.control.fine_tuning.jobs
    pause, longest = connection.profile.poll_seconds
    moved, seen, warned, silent = clock(), "", False, False
    while job.status not in ENDED:
        sleep(pause)
        pause = min(longest, pause * 1.2)
        try:
            job = jobs.retrieve(job.id)
            step, total, message = newest_step(jobs, job.id)
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
            if getattr(error, "code", None) in FINAL:
                raise
            if not silent:
                say(f"The provider does not answer just now ({type(error).__name__}); the job goes on, and so do we.")
            silent = True
            continue
        silent = False
        state = f"{job.status} {message}"
        if state != seen:
            if str(job.status) == "paused":
                say(f"Job {job.id} is paused. Go on with: finetune jobs resume {job.id}")
            moved, seen, warned = clock(), state, False
            progress(step, total, message if total else job.status)
        elif clock() - moved > 1800 and not warned:
            say(f"Job {job.id} has not moved for half an hour (status {job.status}). It may be stuck at the provider.")
            warned = True
    if job.status != "succeeded":
        raise failure(job)
    return job


def newest_step(jobs: Any, job_id: str) -> tuple[int, int, str]:
    """Step, total steps (0 before the first) and message of the newest event that reports a step."""
    for event in jobs.list_events(job_id, limit=10).data:
        data = event.data if isinstance(event.data, dict) else {}
        if "step" in data:
            return int(data["step"]), int(data.get("total_steps") or 0), event.message
    return 0, 0, ""
