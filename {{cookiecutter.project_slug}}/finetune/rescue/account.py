"""The fine-tuned models of an account: their jobs, their files, how long they still answer, and what is saved."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from finetune.pricing.catalogue import look_up
from finetune.provider.connect import Connection
from finetune.provider.paging import all_rows, each_row
from finetune.provider.ready_model import with_model
from finetune.rescue.downloads import OF, value_in

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
    hyperparameters: dict[str, Any]
    result_files: list[str]
    shutdown: str | None  # the first day on which it does not answer; None: not announced
    days_left: int | None
    saved_answers: int | None  # that are in data/rescued/; None: nothing of the model is there


def fine_tunes(connection: Connection, today: datetime.date, root: Path) -> list[FineTune]:
    """Return the account's fine-tuned models, those that end first at the top; `root` has what is saved of them."""
    control, saved = connection.control, saved_answers(root)
    listed = {model.id: model for model in all_rows(control.models.list())}
    files = {file.id for file in each_row(control.files.list())}
    found: list[FineTune] = []
    for job in each_row(control.fine_tuning.jobs.list(limit=100)):
        model = with_model(connection, job).fine_tuned_model
        if not model:
            continue
        day = shutdown_of(connection, job, getattr(listed.get(model), "shutdown_date", None))
        found.append(
            {
                "model": model,
                "answers": model in listed,
                "job": job.id,
                "base": job.model,
                "training_file": job.training_file,
                "training_file_is_there": job.training_file in files,
                "hyperparameters": hyperparameters_of(job),
                "result_files": list(job.result_files or []),
                "shutdown": day.isoformat() if day else None,
                "days_left": (day - today).days if day else None,
                "saved_answers": saved.get(model),
            }
        )
    return sorted(found, key=lambda one: (one["shutdown"] or "9999", one["model"]))


def save_next(found: list[FineTune], deploys: bool) -> FineTune | None:
    """Return the first model that has no saved answers and may still give some; None if there is no such one."""
    candidates = [one for one in found if not one["saved_answers"] and (one["answers"] or deploys)]
    coming = (one for one in candidates if one["days_left"] is None or one["days_left"] > 0)
    return next(iter([*coming, *candidates]), None)


def hyperparameters_of(job: "FineTuningJob") -> dict[str, Any]:
    """Return the hyperparameters of a job, which newer jobs have in their method."""
    kind = getattr(job.method, job.method.type, None) if job.method and job.method.type else None
    shown = (kind and kind.hyperparameters) or job.hyperparameters
    return shown.model_dump(mode="json", exclude_none=True) if shown else {}


def saved_answers(root: Path) -> dict[str, int]:
    """Return the number of recorded answers of each saved model, by its name."""
    found: dict[str, int] = {}
    for path in root.glob(f"*/{OF}"):
        counts = [value_in(one, "asked") for one in path.parent.glob("manifest*.json")]
        found[str(value_in(path, "model"))] = sum(count for count in counts if isinstance(count, int))
    return found


def shutdown_of(connection: Connection, job: "FineTuningJob", said: str | None) -> datetime.date | None:
    """Return a model's shutdown date: that which the provider says, else that of its base in the catalogue."""
    try:
        return datetime.date.fromisoformat(str(said)[:10])
    except ValueError:
        return look_up(job.model, connection.profile.name).shutdown
