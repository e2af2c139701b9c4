"""Wait for a fine-tuning job until it has ended, and report its steps."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finetune.core.callbacks import Progress, Say
from finetune.provider.connect import Connection
from finetune.provider.create_once import list_lag
from finetune.provider.extras import extra
from finetune.provider.find_jobs import ENDED
from finetune.provider.job_failures import job_error
from finetune.provider.polling import TemporaryError, poll
from finetune.provider.ready_model import wait_for_model

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


@dataclass(frozen=True)
class JobState:
    """A job with its newest step. Other changes of the job do not make a new state."""

    job: "FineTuningJob" = field(compare=False)
    status: str
    step: int = 0
    total: int = 0  # 0 before the first step
    message: str = ""


def follow(
    connection: Connection,
    job: "FineTuningJob",
    progress: Progress,
    say: Say,
    older_twin: Callable[["FineTuningJob"], "FineTuningJob | None"] = lambda job: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> "FineTuningJob":
    """Return the job when it has ended; call `progress` with each new step.

    `older_twin` is called at each look, and may return another job to follow instead. An unknown status is waited for
    like `running`, and the model of a job that has succeeded until the provider has it. Raises FinetuneError when the
    job ends without a model.
    """
    import openai

    jobs = connection.control.fine_tuning.jobs
    was_paused = False

    def look() -> JobState:
        nonlocal job
        job = older_twin(job) or job
        try:
            found = jobs.retrieve(job.id)
        except openai.NotFoundError as error:
            if connection.clock.now() - (job.created_at or 0) > list_lag(connection):
                raise
            raise TemporaryError(
                f"The provider does not show job {job.id} yet.", "Run the same command again."
            ) from error
        return JobState(found, found.status, *newest_step(connection, job.id))

    def report(state: JobState) -> None:
        nonlocal was_paused
        is_paused = state.status == "paused"
        if is_paused and not was_paused:
            say(f"Job {job.id} is paused. Resume it with: finetune jobs resume {job.id}")
        was_paused = is_paused
        progress(state.step, state.total, state.message if state.total else state.status)

    ended = poll(
        JobState(job, job.status),
        look,
        lambda state: state.status in ENDED,
        lambda state: f"Job {job.id} ({state.status})",
        report,
        say,
        connection.profile.poll_seconds,
        sleep,
        clock,
    ).job
    if ended.status != "succeeded":
        raise job_error(ended)
    return wait_for_model(connection, ended, say, sleep, clock)


def newest_step(connection: Connection, job_id: str) -> tuple[int, int, str]:
    """Return step, total steps and message of the newest event that reports a step; zeros before the first.

    A job can be followed without events.
    """
    jobs = connection.control.fine_tuning.jobs
    for event in extra("events", lambda: jobs.list_events(job_id, limit=10).data or [], []):
        data = event.data if isinstance(event.data, dict) else {}
        if (step := count_in(data, "step")) is not None:
            return step, count_in(data, "total_steps") or 0, event.message or ""
    return 0, 0, ""


def count_in(data: Mapping[str, object], key: str) -> int | None:
    """Return the number of steps under a key of an event's data; None where it is none."""
    value = data.get(key)
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
