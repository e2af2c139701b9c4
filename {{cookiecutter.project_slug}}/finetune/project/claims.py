"""Marks at the provider: this project uses a file, or the model of a job, that another project has made.

Two projects with the same data share a file and a job, so that nothing is paid twice. The API cannot change the
metadata of a job, and a note on one machine is unknown on others; so the mark is a file of a hundred bytes beside
them, which `finetune files clean` of every project with the same account sees.
"""

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.core.callbacks import Say, say_nothing
from finetune.core.errors import FinetuneError
from finetune.project.history import committed_files, committed_models, project_id
from finetune.provider.connect import Connection
from finetune.provider.find_jobs import PROJECT
from finetune.provider.paging import all_rows
from finetune.provider.remote_files import ensure_file, uploaded_form

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

NAME = re.compile(r"used-by-([0-9a-z]{4,12})-(.+)\.jsonl")


def own_names() -> list[str]:
    """Return the names of this project in marks: before the first commit it has one of its folder."""
    folder = f"none{hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:8]}"
    return [project_id()[:12], folder] if project_id() != "none" else [folder]


def claim(connection: Connection, made: str, say: Say) -> None:
    """Leave this project's mark on a file or a job, unless it is there. Where the provider refuses it, say so."""
    import openai

    name = f"used-by-{own_names()[0]}-{made}.jsonl"
    example = [{"role": "user", "content": name}, {"role": "assistant", "content": "Do not delete."}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(json.dumps({"messages": example}) + "\n", encoding="utf-8")
        try:
            with uploaded_form(path, connection.profile) as uploaded:
                ensure_file(connection, uploaded, lambda: None, lambda *_: None, say_nothing, name=name)
        except (openai.APIStatusError, FinetuneError) as error:
            reason = error.status_code if isinstance(error, openai.APIStatusError) else error.what
            say(
                f"{made} was there before, and the provider takes no mark that this project uses it too ({reason})."
                " If another project made it, its `finetune files clean` may delete it."
            )


def claim_file(connection: Connection, file_id: str, say: Say) -> None:
    """Leave the mark on a file that was found at the provider, unless a commit of this project has it already."""
    if file_id not in {file["id"] for record in committed_files() for file in record.values()}:
        claim(connection, file_id, say)


def claim_job(connection: Connection, job: "FineTuningJob", say: Say) -> None:
    """Leave the mark on a job that another project has created, unless a commit of this project has it already."""
    owner = (job.metadata or {}).get(PROJECT, "none")
    ours = {record.get("job") for record in committed_models()}
    if owner not in ("none", project_id()) and job.id not in ours:
        claim(connection, job.id, say)


def marks(connection: Connection) -> dict[str, tuple[str, str]]:
    """Return the marks of all projects: by the file's ID, the project's name and what it uses."""
    found = {}
    for file in all_rows(connection.control.files.list(purpose="fine-tune")):
        if match := NAME.fullmatch(file.filename or ""):
            found[file.id] = (match[1], match[2])
    return found
