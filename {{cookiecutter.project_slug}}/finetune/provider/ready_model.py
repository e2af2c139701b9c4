"""Whether the model of a job that has succeeded is there: a job says "succeeded" for ever, also of a deleted model."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from finetune.core.callbacks import Say
from finetune.core.errors import FinetuneError
from finetune.provider.connect import Connection
from finetune.provider.paging import all_rows

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

PATIENCE = 900  # seconds after which a job that has succeeded has its model


def lacks_model(connection: Connection, model: str | None) -> bool:
    """Return whether the provider does not have a model; False where it has it, or nobody can say.

    Where tuned models must be deployed before they are known, and on servers that list no models, nobody can say.
    """
    import openai

    if not model or connection.profile.deploys:
        return False
    models = connection.control.models
    try:
        models.retrieve(model)
    except openai.NotFoundError:
        try:
            listed = {one.id for one in all_rows(models.list())}
        except openai.APIStatusError:
            return False
        lists_tuned = connection.profile.name != "compatible" or any(name.startswith("ft:") for name in listed)
        return lists_tuned and model not in listed
    except openai.APIStatusError as error:
        if error.status_code in (403, 405, 501):  # 403: a key that may train need not be allowed to read models
            return False
        raise
    return False


def with_model(connection: Connection, job: "FineTuningJob") -> "FineTuningJob":
    """Return a job that names its model. Where jobs do not, it is the model of the last checkpoint.

    Source: Nebius' API reference and its notebook distillation-1, whose jobs have no `fine_tuned_model`.
    """
    if job.fine_tuned_model or connection.profile.names_model or job.status != "succeeded":
        return job
    checkpoints = all_rows(connection.control.fine_tuning.jobs.checkpoints.list(job.id))
    last = max(checkpoints, key=lambda one: one.step_number, default=None)
    return job.model_copy(update={"fine_tuned_model": last.fine_tuned_model_checkpoint}) if last else job


def is_new(connection: Connection, job: "FineTuningJob") -> bool:
    """Return whether a job has ended within PATIENCE, by the provider's clock."""
    return connection.clock.now() - (job.finished_at or job.created_at or 0) < PATIENCE


def wait_for_model(
    connection: Connection,
    job: "FineTuningJob",
    say: Say,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> "FineTuningJob":
    """Return a job that has succeeded when it names its model and the provider has the model.

    Raises FinetuneError if that takes PATIENCE seconds.
    """
    pause, longest = connection.profile.poll_seconds
    end = clock() + PATIENCE
    is_said = False
    job = with_model(connection, job)
    while not job.fine_tuned_model or lacks_model(connection, job.fine_tuned_model):
        if clock() > end:
            model = job.fine_tuned_model
            lacks = f"the provider lacks its model {model}" if model else "it has no model"
            raise FinetuneError(
                f"Job {job.id} has succeeded, but after {PATIENCE // 60} minutes {lacks}.",
                "Run the same command later: the job is found, nothing is paid again.",
            )
        if not is_said:
            say(f"Job {job.id} has succeeded; waiting for its model.")
        is_said = True
        sleep(pause)
        pause = min(longest, pause * 1.2)
        job = with_model(connection, connection.control.fine_tuning.jobs.retrieve(job.id))
    return job
