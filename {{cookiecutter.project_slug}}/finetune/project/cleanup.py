"""Find uploads and models of this project that no commit refers to, and delete them."""

from dataclasses import dataclass
from typing import Any, Literal

from finetune.core.callbacks import say_nothing
from finetune.core.disk import read_json, read_note
from finetune.core.errors import FinetuneError
from finetune.core.paths import FILES, MODEL
from finetune.core.read_records import read_model_record, read_variants
from finetune.core.records.training import FilesRecord
from finetune.project.claims import marks, own_names
from finetune.project.history import committed_files, committed_models, project_id
from finetune.project.uploads import UPLOADED
from finetune.project.variants import committed_variants
from finetune.provider.connect import Connection
from finetune.provider.find_jobs import ENDED, FINGERPRINT, PROJECT
from finetune.provider.find_model import find_model
from finetune.provider.paging import all_rows

SPARED = 24 * 3600  # seconds


@dataclass(frozen=True)
class Needed:
    """What the records refer to: those of all commits, and the uncommitted ones of this folder."""

    files: set[str]
    models: set[str]
    fingerprints: set[str]
    jobs: set[str]


@dataclass(frozen=True)
class Unneeded:
    """A file or model at the provider that no commit refers to."""

    kind: Literal["file", "model"]
    id: str
    why: str


def needed() -> Needed:
    """Collect the files, models and fingerprints that some record refers to."""
    models, files = committed_models(), committed_files()
    if MODEL.exists():
        models.append(read_model_record())
    if FILES.exists():
        files.append(read_json(FILES, "upload", FilesRecord))
    kept = Needed(set(), set(), set(), set())
    for model in models:
        kept.fingerprints.add(model["fingerprint"])
        kept.jobs.update(filter(None, [model.get("job")]))
        kept.models.update({model["model"], *(c["model"] for c in model["checkpoints"])}, model.get("lineage", []))
    for variant in [*committed_variants(), *read_variants().values()]:
        kept.fingerprints.add(variant["fingerprint"])
        kept.jobs.update(filter(None, [variant.get("job")]))
        kept.models.update(variant.get("checkpoints", []))
        files.append(variant["files"])
    for record in files:
        kept.files.update(file["id"] for file in record.values())
    return kept


def unneeded(connection: Connection) -> list[Unneeded]:
    """List the models and files to delete: models before the files of their jobs.

    Candidates are the files and models of jobs of this project, and the files that this clone uploaded. Never listed is
    what another project has marked, or its jobs use or train from, nor what has ended within a day: an experiment that
    runs has no commit yet. Raises FinetuneError in a project without a commit.
    """
    project = project_id()
    if project == "none":
        raise FinetuneError(
            "This project has no commit, so it is not known which files are still needed.",
            "Commit first: git add . && git commit",
        )
    kept = needed()
    control = connection.control
    marked = marks(connection)
    others = {made for name, made in marked.values() if name not in own_names()}
    jobs = all_rows(control.fine_tuning.jobs.list(limit=100))
    ours = [
        job
        for job in jobs
        if (metadata := job.metadata or {}).get(PROJECT) == project
        and metadata.get(FINGERPRINT) not in kept.fingerprints
        and job.status in ENDED
        and job.id not in others
        and connection.clock.now() - (job.finished_at or job.created_at or connection.clock.now()) > SPARED
    ]
    our_ids = {job.id for job in ours}
    in_use = kept.files | others
    in_use |= {file for job in jobs if job.id not in our_ids for file in files_of(job)}
    trained_from = {job.model for job in jobs if job.id not in our_ids}
    models: dict[str, str] = {}
    files: dict[str, str] = {}
    for job in ours:
        why = f"no commit refers to job {job.id} ({job.status})"
        for checkpoint in all_rows(control.fine_tuning.jobs.checkpoints.list(job.id)):
            models[checkpoint.fine_tuned_model_checkpoint] = why
            files.update(dict.fromkeys(getattr(checkpoint, "result_files", None) or [], why))
        if job.fine_tuned_model:
            models[job.fine_tuned_model] = why
        files.update(dict.fromkeys(files_of(job), why))
    files = {**dict.fromkeys(read_note(UPLOADED), "uploaded from this clone, and no commit refers to it"), **files}
    for file, (name, made) in marked.items():
        if name in own_names() and made not in kept.files | kept.jobs:
            files[file] = f"the mark that this project uses {made}, and no commit refers to it"
    there = {file.id for file in all_rows(control.files.list())}
    known = {model.id for model in all_rows(control.models.list())}
    return [
        *(Unneeded("model", name, why) for name, why in models.items() if name in known - kept.models - trained_from),
        *(Unneeded("file", name, why) for name, why in files.items() if name in there - in_use),
    ]


def other_users(connection: Connection, model: str) -> list[str]:
    """Return by what other projects of this account use a model, or one that it is a checkpoint of."""
    marked = {made for name, made in marks(connection).values() if name not in own_names()}
    found = []
    made = find_model(connection, model, say_nothing)
    for job in all_rows(connection.control.fine_tuning.jobs.list(limit=100)):
        is_foreign = (job.metadata or {}).get(PROJECT, "none") not in ("none", project_id())
        if made and job.id == made[0].id:
            found += [f"another project created its job {job.id}"] if is_foreign else []
            found += [f"another project uses the model of job {job.id}"] if job.id in marked else []
        elif is_foreign and job.model == model:
            found.append(f"another project trains from it (job {job.id})")
    return found


def files_of(job: Any) -> list[str]:
    """Return the IDs of a job's input and result files."""
    return [file for file in (job.training_file, job.validation_file, *(job.result_files or [])) if file]


def delete(connection: Connection, found: Unneeded) -> bool:
    """Delete a file or model; False if it was already deleted."""
    import openai

    try:
        resource = connection.control.models if found.kind == "model" else connection.control.files
        resource.delete(found.id)
    except openai.NotFoundError:
        return False
    return True
