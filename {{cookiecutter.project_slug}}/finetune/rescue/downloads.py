"""Download what a provider still has of a fine-tune: job, events, checkpoints, result files and data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.core.disk import write_bytes
from finetune.core.errors import FinetuneError
from finetune.provider.connect import Connection
from finetune.provider.extras import extra
from finetune.provider.paging import all_rows

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"


def download(connection: Connection, job: "FineTuningJob", folder: Path) -> list[str]:
    """Write what the provider has of a job into a folder, and return what it lacks. A file that is there stays.

    Raises the SDK's error where nothing was answered, or the key is refused.
    """
    jobs, missing = connection.control.fine_tuning.jobs, list[str]()

    def fetch(name: str, what: str, content: Callable[[], bytes]) -> None:
        if not (folder / name).is_file():
            for found in extra(what, lambda: [content()], missing):
                write_bytes(folder / name, found)

    def lines(rows: Callable[[], list[dict[str, object]]]) -> Callable[[], bytes]:
        return lambda: "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows()).encode()

    def events() -> list[dict[str, object]]:
        return [one.model_dump(mode="json") for one in all_rows(jobs.list_events(job.id, limit=100))][::-1]

    def checkpoints() -> list[dict[str, object]]:
        return [one.model_dump(mode="json") for one in all_rows(jobs.checkpoints.list(job.id))]

    def file_content(file: str) -> Callable[[], bytes]:
        return lambda: connection.downloads.files.content(file).content

    fetch("events.jsonl", "events", lines(events))
    fetch("checkpoints.jsonl", "checkpoints", lines(checkpoints))
    for number, file in enumerate(job.result_files or []):
        fetch(f"results{number or ''}.csv", f"result file {file}", file_content(file))
    fetch(TRAINING, f"training file {job.training_file}", file_content(job.training_file))
    if job.validation_file:
        fetch(VALIDATION, f"validation file {job.validation_file}", file_content(job.validation_file))
    fetch(
        "job.json", "job", lambda: (json.dumps(job.model_dump(mode="json"), sort_keys=True, indent=2) + "\n").encode()
    )
    return missing


def folder_of(model: str, root: Path) -> Path:
    """Return a model's folder. Raises FinetuneError if it has the files of another model."""
    folder = root / "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in model)
    try:
        other = json.loads((folder / "of.json").read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder
    if other != model:
        raise FinetuneError(f"{folder} has the files of {other}.", "Move that folder, then run the same command again.")
    return folder
