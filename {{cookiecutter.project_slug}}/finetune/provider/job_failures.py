"""Error messages for jobs without a model: the provider's message, the lines that it names, and what to do."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.core.errors import JobEndedError
from finetune.core.paths import PREPARED
from finetune.provider.training_file import source_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

FILES = {"training_file": PREPARED / "train.jsonl", "validation_file": PREPARED / "valid.jsonl"}
# OpenAI counts examples from 1, so that an example's number is its line.
LINE_NUMBERS = re.compile(r"\b(?:Example|line)s? (\d+)|Flagged lines?: ([\d, ]+)", re.IGNORECASE)
MODERATION = re.compile(r"moderation|safety|usage polic", re.IGNORECASE)
LINES_SHOWN = 20


def is_temporary(job: "FineTuningJob") -> bool:
    """Return whether another job with the same request may succeed: the server failed, not the data or the model."""
    error = job.error
    return bool(error and error.code == "server_error" and not MODERATION.search(error.message or ""))


def job_error(job: "FineTuningJob") -> JobEndedError:
    """Return the exception for a job that failed or was cancelled, with how to train again."""
    if job.status == "cancelled":
        return JobEndedError(job.id, job.status, f"Job {job.id} was cancelled.", "Train again with: dvc repro")
    code, message, param = (job.error.code, job.error.message, job.error.param) if job.error else ("", "", None)
    file = FILES.get(param or "")
    lines = line_numbers(message or "")
    where = ""
    if lines:
        shown = [":".join(map(str, place_of(line, file))) for line in lines[:LINES_SHOWN]]
        where = f"\n  {', '.join(shown)}{' …' if len(lines) > LINES_SHOWN else ''}"
    elif file:
        where = f" (in {file})"
    again = "or train on the same data again with: finetune train --again"
    if is_temporary(job):
        remedy = "The provider reports a fault of the server, not of the data: run `dvc repro` again."
    elif MODERATION.search(message or ""):
        remedy = f"Remove what the provider's policies do not allow and run `dvc repro`, {again} (it may cost again)"
    elif code == "model_not_found":
        remedy = "Check train.base in params.yaml."
    else:
        remedy = f"Correct what the message names and run `dvc repro`, {again}"
    reason = (message or "no reason given").rstrip(". ")
    what = f"Job {job.id} failed: {reason} [{code or 'no code'}].{where}"
    return JobEndedError(job.id, job.status, what, remedy)


def place_of(line: int, file: Path | None) -> tuple[Path, int]:
    """Return the prepared file, and the line in it, of a line of an uploaded file, by default the training file."""
    return source_of(line) if file in (None, FILES["training_file"]) else (file, line)


def line_numbers(message: str) -> list[int]:
    """Return the lines of the file that a message names, in their order."""
    found = []
    for one, several in LINE_NUMBERS.findall(message):
        found += [int(number) for number in re.findall(r"\d+", one or several)]
    return list(dict.fromkeys(found))
