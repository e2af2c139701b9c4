"""Fine-tuning jobs that are created once: looked for by fingerprint, adopted, attached to, and only then created."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.provider.connect import Connection
from finetune.provider.files import sha256
from finetune.record import write_json

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

NOTES = Path(".finetune")  # git-ignored: what was about to be asked when a run ended without an answer
FINGERPRINT = "finetune-fingerprint"  # the key in the job's metadata
ENDED = ("succeeded", "failed", "cancelled")
# Failures that are not of the data's making, so that another try may succeed.
PASSING = ("server_error", None, "")
PATIENCE = (1, 2, 4, 8, 16)  # seconds between looks for a job whose creation got no answer

Wanted = Mapping[str, Any]
Say = Callable[[str], None]


def fingerprint(train_sha256: str, valid_sha256: str | None, ask: Wanted) -> str:
    """What makes two fine-tunes one: SHA-256 of the data's hashes and of all that is asked, as canonical JSON."""
    identity = {"train": train_sha256, "valid": valid_sha256, **ask}
    return sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode())


def ensure_job(connection: Connection, mark: str, request: Wanted, again: bool, say: Say) -> "FineTuningJob":
    """The one job of this fingerprint: there already in whatever state, or created now.

    With `again`, a job that failed for good is left aside and a new one created. Raises FinetuneError for such a job
    otherwise.
    """
    job = find(connection, mark, request)
    if job is not None:
        if job.status == "succeeded":
            say(f"Job {job.id} has trained just this already: adopted, nothing is paid.")
            return job
        if job.status not in ENDED:
            say(f"Job {job.id} is at it already ({job.status}): attached.")
            return job
        code = job.error.code if job.error else None
        if job.status == "failed" and code not in PASSING and not again:
            raise failure(job)
        say(f"Job {job.id} {job.status}{f' ({code})' if code else ''}: creating another.")
    return create_once(connection, mark, request, say)


def find(connection: Connection, mark: str, request: Wanted) -> "FineTuningJob | None":
    """The best job of this fingerprint: one that succeeded before one under way before one that ended otherwise."""
    best: FineTuningJob | None = None
    for job in connection.client.fine_tuning.jobs.list(metadata={FINGERPRINT: mark}, limit=100):
        # Some servers ignore the filter, some drop the metadata: the first is checked, for the second there is a note.
        ours = (job.metadata or {}).get(FINGERPRINT) == mark or noted(mark, job, request)
        if ours and (best is None or rank(job) > rank(best)):
            best = job
    return best


def rank(job: "FineTuningJob") -> int:
    return 2 if job.status == "succeeded" else 0 if job.status in ENDED else 1


def noted(mark: str, job: "FineTuningJob", request: Wanted) -> bool:
    """Whether a job without metadata is the one that the note of a former run was about."""
    note = NOTES / f"{mark}.json"
    if job.metadata or not note.exists():
        return False
    same = all(getattr(job, key) == request.get(key) for key in ("training_file", "validation_file", "model", "seed"))
    return same and job.created_at >= json.loads(note.read_text(encoding="utf-8"))["asked_at"] - 60


def create_once(connection: Connection, mark: str, request: Wanted, say: Say) -> "FineTuningJob":
    """Create the job; where the answer is lost, look for it before anybody asks again."""
    import openai

    # The clock of this note never reaches a record; it only tells this asking from an older one.
    write_json(NOTES / f"{mark}.json", {"asked_at": int(time.time()), "request": dict(request)})
    jobs = connection.client.with_options(max_retries=0).fine_tuning.jobs
    before = {job.id for job in connection.client.fine_tuning.jobs.list(metadata={FINGERPRINT: mark}, limit=100)}
    try:
        # The SDK would repeat a POST on a timeout or a 5xx without saying so: that is a second paid job.
        job = jobs.create(**request, metadata={FINGERPRINT: mark})
        say(f"Job {job.id} created.")
        return job
    except (openai.APIConnectionError, openai.InternalServerError) as error:
        say(f"No clear answer to the creation ({type(error).__name__}): looking whether the job is there.")
        for pause in PATIENCE:
            time.sleep(pause)
            try:
                job_found = find(connection, mark, request)
            except (openai.APIConnectionError, openai.InternalServerError):
                continue
            if job_found is not None and job_found.id not in before:
                say(f"Job {job_found.id} was created.")
                return job_found
        raise


def follow(
    connection: Connection, job: "FineTuningJob", progress: Callable[[int, int, str], None], say: Say
) -> "FineTuningJob":
    """Look at the job until it ends; `progress(step, total, message)` hears of each new step.

    Raises FinetuneError when it ends without a model.
    """
    import openai

    jobs = connection.client.fine_tuning.jobs
    pause, longest = connection.profile.poll_seconds
    moved, seen, warned = time.monotonic(), "", False
    while job.status not in ENDED:
        time.sleep(pause)
        pause = min(longest, pause * 1.2)
        try:
            job = jobs.retrieve(job.id)
            step, total, message = newest_step(connection, job.id)
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
            say(f"The provider does not answer just now ({type(error).__name__}); the job goes on, and so do we.")
            continue
        state = f"{job.status} {message}"
        if state != seen:
            moved, seen, warned = time.monotonic(), state, False
            progress(step, total, message if total else job.status)
        elif time.monotonic() - moved > 1800 and not warned:
            say(f"Job {job.id} has not moved for half an hour (status {job.status}). It may be stuck at the provider.")
            warned = True
    if job.status != "succeeded":
        raise failure(job)
    return job


def newest_step(connection: Connection, job_id: str) -> tuple[int, int, str]:
    """Step, total steps (0 before the first) and message of the newest event that reports a step."""
    for event in connection.client.fine_tuning.jobs.list_events(job_id, limit=10).data:
        data = event.data if isinstance(event.data, dict) else {}
        if "step" in data:
            return int(data["step"]), int(data.get("total_steps") or 0), event.message
    return 0, 0, ""


def failure(job: "FineTuningJob") -> FinetuneError:
    """Why a job has no model, in the provider's words."""
    if job.status == "cancelled":
        return FinetuneError(f"Job {job.id} was cancelled.", "Train anew with: dvc repro")
    code, message, param = (job.error.code, job.error.message, job.error.param) if job.error else ("", "", None)
    where = {"training_file": "data/prepared/train.jsonl", "validation_file": "data/prepared/valid.jsonl"}.get(
        param or ""
    )
    remedy = {
        "model_not_found": "Check train.base in params.yaml.",
        "server_error": "Nothing is wrong with the data as far as the provider says: run `dvc repro` again.",
    }.get(code or "", "Mend what it names and run `dvc repro`, or train the same again with: finetune train --again")
    at = f" (in {where})" if where else ""
    return FinetuneError(f"Job {job.id} failed: {message or 'no reason given'} [{code or 'no code'}]{at}", remedy)
