"""Marks at the provider: this project uses a file, or the model of a job, that another project has made.

Two projects with the same data share a file and a job, so that nothing is paid twice. The API cannot change the
metadata of a job, and a note on one machine is unknown on others; so the mark is a file of a hundred bytes beside
them, which `finetune files clean` of every project with the same account sees.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.core.callbacks import Say, say_nothing
from finetune.project.history import committed_files, committed_models, project_id
from finetune.provider.connect import Connection
from finetune.provider.paging import all_rows
from finetune.provider.remote_files import ensure_file
from finetune.provider.remote_jobs import PROJECT

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

NAME = re.compile(r"used-by-([0-9a-z]{4,12})-(.+)\.jsonl")


def mark_name(made: str) -> str:
    """Return the name of this project's mark on a file or job."""
    return f"used-by-{project_id()[:12]}-{made}.jsonl"


def claim(connection: Connection, made: str, say: Say) -> None:
    """Leave this project's mark on a file or a job, unless it is there. Where the provider refuses it, say so.

    A project without a commit leaves none: it cannot say later that it needs it no longer.
    """
    import openai

    name = mark_name(made)
    example = [{"role": "user", "content": name}, {"role": "assistant", "content": "Do not delete."}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(json.dumps({"messages": example}) + "\n", encoding="utf-8")
        try:
            ensure_file(connection, path, lambda: None, lambda *_: None, say_nothing, name=name)
        except openai.APIStatusError as error:
            say(
                f"{made} was made by another project, and the provider refuses a mark that it is used here too"
                f" ({error.status_code}). `finetune files clean` in the other project may delete it."
            )


def claim_file(connection: Connection, file_id: str, say: Say) -> None:
    """Leave the mark on a file that was found at the provider, unless a commit of this project has it already."""
    ours = {file["id"] for record in committed_files() for file in record.values()}
    if project_id() != "none" and file_id not in ours:
        claim(connection, file_id, say)


def claim_job(connection: Connection, job: "FineTuningJob", say: Say) -> None:
    """Leave the mark on a job that another project has created, unless a commit of this project has it already."""
    owner = (job.metadata or {}).get(PROJECT, "none")
    ours = {record["job"] for record in committed_models()}
    if "none" not in (owner, project_id()) and owner != project_id() and job.id not in ours:
        claim(connection, job.id, say)


def marks(connection: Connection) -> dict[str, tuple[str, str]]:
    """Return the marks of all projects: by the file's ID, the project's name and what it uses."""
    found = {}
    for file in all_rows(connection.control.files.list(purpose="fine-tune")):
        if match := NAME.fullmatch(file.filename or ""):
            found[file.id] = (match[1], match[2])
    return found
