"""The fine-tuned models of an account: their jobs, their files, and how long they still answer."""

import datetime
from typing import TYPE_CHECKING, TypedDict

from finetune.pricing.catalogue import look_up
from finetune.provider.connect import Connection
from finetune.provider.paging import all_rows, each_row

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


class FineTune(TypedDict):
    """A fine-tuned model of the account."""

    model: str
    answers: bool  # the provider still lists the model
    job: str
    base: str
    training_file: str
    training_file_is_there: bool
    hyperparameters: str
    result_files: list[str]
    shutdown: str | None  # the first day on which it does not answer; None: not announced
    days_left: int | None


def fine_tunes(connection: Connection, today: datetime.date) -> list[FineTune]:
    """Return the account's fine-tuned models, those that end first at the top."""
    control = connection.control
    listed = {model.id: model for model in all_rows(control.models.list())}
    files = {file.id for file in each_row(control.files.list())}
    found: list[FineTune] = []
    for job in each_row(control.fine_tuning.jobs.list(limit=100)):
        if job.fine_tuned_model is None:
            continue
        day = shutdown_of(connection, job, getattr(listed.get(job.fine_tuned_model), "shutdown_date", None))
        found.append(
            {
                "model": job.fine_tuned_model,
                "answers": job.fine_tuned_model in listed,
                "job": job.id,
                "base": job.model,
                "training_file": job.training_file,
                "training_file_is_there": job.training_file in files,
                "hyperparameters": job.hyperparameters.model_dump_json(exclude_none=True)
                if job.hyperparameters
                else "",
                "result_files": list(job.result_files or []),
                "shutdown": day.isoformat() if day else None,
                "days_left": (day - today).days if day else None,
            }
        )
    return sorted(found, key=lambda one: (one["shutdown"] or "9999", one["model"]))


def shutdown_of(connection: Connection, job: "FineTuningJob", said: str | None) -> datetime.date | None:
    """Return a model's shutdown date: that which the provider says, else that of its base in the catalogue."""
    try:
        return datetime.date.fromisoformat(str(said)[:10])
    except ValueError:
        return look_up(job.model, connection.profile.name).shutdown


def job_of(connection: Connection, model: str) -> "FineTuningJob | None":
    """Return the job that made a model, or one of whose checkpoints it is; None if the provider lists none."""
    jobs = connection.control.fine_tuning.jobs.list(limit=100)
    return next((job for job in each_row(jobs) if job.fine_tuned_model in (model, model.partition(":ckpt-")[0])), None)
