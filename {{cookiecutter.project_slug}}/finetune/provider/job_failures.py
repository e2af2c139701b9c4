"""Why a job has no model: the provider's words, the lines that they name, and what to do."""

import re
from typing import TYPE_CHECKING

from finetune.core.errors import FinetuneError
from finetune.core.paths import PREPARED

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

FILES = {"training_file": PREPARED / "train.jsonl", "validation_file": PREPARED / "valid.jsonl"}
# OpenAI counts examples from 1, so that an example's number is its line.
NAMED = re.compile(r"\b(?:Example|line)s? (\d+)|Flagged lines?: ([\d, ]+)", re.IGNORECASE)
BLOCKED = re.compile(r"moderation|safety|usage polic", re.IGNORECASE)
SHOWN = 20


def may_pass(job: "FineTuningJob") -> bool:
    """Whether another try of the same job may succeed: the server's fault, and no verdict on data or model."""
    error = job.error
    return bool(error and error.code == "server_error" and not BLOCKED.search(error.message or ""))


def failure(job: "FineTuningJob") -> FinetuneError:
    """The exception for a job that failed or was cancelled, with how to train again."""
    if job.status == "cancelled":
        return FinetuneError(f"Job {job.id} was cancelled.", "Train anew with: dvc repro")
    code, message, param = (job.error.code, job.error.message, job.error.param) if job.error else ("", "", None)
    file = FILES.get(param or "")
    lines = lines_of(message or "")
    where = ""
    if lines:
        named = [f"{file or FILES['training_file']}:{line}" for line in lines[:SHOWN]]
        where = f"\n  {', '.join(named)}{' …' if len(lines) > SHOWN else ''}"
    elif file:
        where = f" (in {file})"
    again = "or train the same again with: finetune train --again"
    if may_pass(job):
        remedy = "Nothing is wrong with the data as far as the provider says: run `dvc repro` again."
    elif BLOCKED.search(message or ""):
        remedy = f"Take out what its policies do not allow and run `dvc repro`, {again} (it may be paid again)"
    elif code == "model_not_found":
        remedy = "Check train.base in params.yaml."
    else:
        remedy = f"Mend what it names and run `dvc repro`, {again}"
    said = (message or "no reason given").rstrip(". ")
    return FinetuneError(f"Job {job.id} failed: {said} [{code or 'no code'}].{where}", remedy)


def lines_of(message: str) -> list[int]:
    """The lines of the file that a message names, in their order."""
    found = []
    for one, several in NAMED.findall(message):
        found += [int(number) for number in re.findall(r"\d+", one or several)]
    return list(dict.fromkeys(found))
