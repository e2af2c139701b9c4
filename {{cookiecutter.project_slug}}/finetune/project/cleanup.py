"""What this project made at the provider and no commit of it names."""

from dataclasses import dataclass
from typing import Any

from finetune.core.disk import read_note
from finetune.core.errors import FinetuneError
from finetune.core.paths import FILES, MODEL, NOTES
from finetune.project.history import committed, project_id
from finetune.provider.connect import Connection
from finetune.provider.remote_jobs import ENDED, FINGERPRINT, PROJECT

UPLOADED = NOTES / "uploaded.json"  # the files that this clone uploaded: ID to SHA-256


@dataclass(frozen=True)
class Needed:
    """What the records name: those of all commits, and those that lie here uncommitted."""

    files: set[str]
    models: set[str]
    fingerprints: set[str]


def needed() -> Needed:
    records = committed() + [note for path in (FILES, MODEL) if (note := read_note(path))]
    kept = Needed(set(), set(), set())
    for record in records:
        if "fingerprint" in record:
            kept.fingerprints.add(record["fingerprint"])
            kept.models.update(
                {record["model"], *(c["model"] for c in record["checkpoints"])}, record.get("lineage", [])
            )
        else:
            kept.files.update(file["id"] for file in record.values())
    return kept


def unneeded(connection: Connection) -> list[dict[str, Any]]:
    """The models and files to delete, each with `kind`, `id` and `why`: models before the files of their jobs.

    This project's are the jobs that bear its mark, with what they made and were made of, and the files that this clone
    uploaded. What a job of another project uses is none of them. Raises FinetuneError in a project without a commit.
    """
    project = project_id()
    if project == "none":
        raise FinetuneError("This project has no commit yet, so nothing in it is named by one.", "Commit first.")
    kept = needed()
    control = connection.control
    jobs = list(control.fine_tuning.jobs.list(limit=100))
    ours = [
        job
        for job in jobs
        if (metadata := job.metadata or {}).get(PROJECT) == project
        and metadata.get(FINGERPRINT) not in kept.fingerprints
        and job.status in ENDED
    ]
    our_ids = {job.id for job in ours}
    in_use = {file for job in jobs if job.id not in our_ids for file in files_of(job)} | kept.files
    models: dict[str, str] = {}
    files: dict[str, str] = {}
    for job in ours:
        why = f"job {job.id} ({job.status}) is in no commit"
        for checkpoint in control.fine_tuning.jobs.checkpoints.list(job.id):
            models[checkpoint.fine_tuned_model_checkpoint] = why
            files.update(dict.fromkeys(getattr(checkpoint, "result_files", None) or [], why))
        if job.fine_tuned_model:
            models[job.fine_tuned_model] = why
        files.update(dict.fromkeys(files_of(job), why))
    files = {**dict.fromkeys(read_note(UPLOADED), "uploaded from here, and in no commit"), **files}
    there = {file.id for file in control.files.list()}
    known = {model.id for model in control.models.list()}
    return [
        *({"kind": "model", "id": name, "why": why} for name, why in models.items() if name in known - kept.models),
        *({"kind": "file", "id": name, "why": why} for name, why in files.items() if name in there - in_use),
    ]


def files_of(job: Any) -> list[str]:
    return [file for file in (job.training_file, job.validation_file, *job.result_files) if file]


def remove(connection: Connection, thing: dict[str, Any]) -> bool:
    """Delete one of them; False when it was gone."""
    import openai

    try:
        resource = connection.control.models if thing["kind"] == "model" else connection.control.files
        resource.delete(thing["id"])
    except openai.NotFoundError:
        return False
    return True
