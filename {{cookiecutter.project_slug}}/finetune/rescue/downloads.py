"""Download what a provider still has of a fine-tune: job, events, checkpoints, result files and data."""

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.core.disk import read_jsonl, write_bytes
from finetune.core.errors import FinetuneError
from finetune.provider.connect import Connection
from finetune.provider.extras import extra
from finetune.provider.paging import all_rows

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"
WEIGHTS = "weights"
OF = "of.json"  # says which model the folder is of


def download(connection: Connection, job: "FineTuningJob", model: str, folder: Path) -> list[str]:
    """Write what the provider has of a job into a folder, and return what it lacks. A file that is there stays.

    Providers that hand out weights, such as Nebius, list the files of each checkpoint: those of `model` are written. A
    byte order mark, which the upload has added where a provider wants one, is removed.

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
        return lambda: connection.downloads.files.content(file).content.removeprefix(BOM_UTF8)

    fetch("events.jsonl", "events", lines(events))
    fetch("checkpoints.jsonl", "checkpoints", lines(checkpoints))
    names: set[str] = set()
    weights = weights_of(folder / "checkpoints.jsonl", model)
    is_saved = len(list((folder / WEIGHTS).glob("[!.]*"))) == len(weights)  # and the model may be gone
    for file in [] if is_saved else weights:
        name = name_of(connection, file, missing)
        name = f"{file}-{name}" if name in names else name  # files of two folders
        names.add(name)
        fetch(f"{WEIGHTS}/{name}", f"weights {file}", file_content(file))
    for number, file in enumerate(job.result_files or []):
        fetch(f"results{number or ''}.csv", f"result file {file}", file_content(file))
    fetch(TRAINING, f"training file {job.training_file}", file_content(job.training_file))
    if job.validation_file:
        fetch(VALIDATION, f"validation file {job.validation_file}", file_content(job.validation_file))
    fetch(
        "job.json", "job", lambda: (json.dumps(job.model_dump(mode="json"), sort_keys=True, indent=2) + "\n").encode()
    )
    return missing


def weights_of(checkpoints: Path, model: str) -> list[str]:
    """Return the IDs of the files of a model's checkpoint, else of the last one; [] where there are none."""
    rows = read_jsonl(checkpoints, "finetune rescue save") if checkpoints.is_file() else []
    rows.sort(key=lambda row: (row["fine_tuned_model_checkpoint"] == model, row["step_number"]))
    return list(rows[-1].get("result_files") or []) if rows else []


def name_of(connection: Connection, file: str, missing: list[str]) -> str:
    """Return a file's name without its folders; its ID where the provider does not say it."""
    found = extra(f"name of {file}", lambda: [connection.control.files.retrieve(file).filename or file], missing)
    return Path(next(iter(found), file)).name


def safe_name(text: str) -> str:
    """Return a text as a file's name."""
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in text)


def folder_of(model: str, root: Path) -> Path:
    """Return a model's folder. Raises FinetuneError if it has another model's files, or must be fetched from DVC."""
    folder = root / safe_name(model)
    other = value_in(folder / OF, "model")
    if other not in (None, model):
        raise FinetuneError(f"{folder} has the files of {other}.", "Move that folder, then run the same command again.")
    if not folder.is_dir() and (tracked := dvc_file_of(folder)):
        what = f"{folder} is in DVC, and not here. It may have answers that are paid already."
        raise FinetuneError(what, f"Fetch it with: dvc pull {tracked}")
    return folder


def dvc_file_of(folder: Path) -> Path | None:
    """Return the `.dvc` file that tracks a model's folder, or the folder of all models; None if there is none."""
    files = (one.with_name(f"{one.name}.dvc") for one in (folder, folder.parent))
    return next((file for file in files if file.is_file()), None)


def value_in(path: Path, key: str) -> Any:
    """Return a value of a JSON object in a file; None where the file or the key is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
