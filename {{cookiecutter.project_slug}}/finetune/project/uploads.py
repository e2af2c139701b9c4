"""Upload the files of jobs, each content once, and note which files this clone uploaded."""

from collections.abc import Callable, Sequence
from pathlib import Path

from finetune.core.callbacks import Progress, Say
from finetune.core.disk import count_lines, read_note, sha256_of, write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import FILES, NOTES, PREPARED
from finetune.core.records.training import FilesRecord, UploadedFile
from finetune.project.claims import claim_file
from finetune.project.history import committed_models
from finetune.provider.connect import Connection
from finetune.provider.remote_files import ensure_file
from finetune.provider.training_file import replay_file, uploaded_mix, uploaded_split

UPLOADED = NOTES / "uploaded.json"  # the files that this clone uploaded: ID → SHA-256


def upload_once(
    connection: Connection,
    path: Path,
    replay: Path | None,
    may_create: Callable[[], None],
    progress: Progress,
    say: Say,
) -> UploadedFile:
    """Return the ID and the hash of the file at the provider, which is uploaded if it is not there.

    The rows of `replay` are mixed into it. `may_create` is called before anything is sent, and may raise.
    """
    with uploaded_mix(path, replay, connection.profile) as uploaded:
        file_id, is_new = ensure_file(connection, uploaded, may_create, progress, say)
        record: UploadedFile = {"id": file_id, "sha256": sha256_of(uploaded)}
    if replay:
        record["replay"] = count_lines(replay)
    uploaded_here = read_note(UPLOADED)
    if is_new:
        write_json(UPLOADED, uploaded_here | {file_id: record["sha256"]})
    elif file_id not in uploaded_here:
        claim_file(connection, file_id, say)
    return record


def missing_splits(connection: Connection, files: FilesRecord) -> list[str]:
    """Return the splits of the record whose files the provider does not have."""
    import openai

    missing = []
    for split, file in files.items():
        try:
            connection.control.files.retrieve(file["id"])
        except openai.NotFoundError:
            missing.append(split)
    return missing


def upload_again(
    connection: Connection,
    files: FilesRecord,
    splits: Sequence[str],
    may_create: Callable[[], None],
    progress: Progress,
    say: Say,
) -> FilesRecord:
    """Upload these splits with the content that the record names, and return their new IDs.

    The record itself stays as it is: it is the upload's output, and on another machine its IDs are right.
    Raises FinetuneError where the prepared data are not those of the record.
    """
    uploaded: FilesRecord = {}
    for split in splits:
        path, file = PREPARED / f"{split}.jsonl", files[split]
        remedy = "Upload it again with: dvc repro upload, then run the same command again."
        lacks = f"{connection.profile.name!r} does not have the {split} file {file['id']} of {FILES}"
        if not path.is_file():
            raise FinetuneError(f"{lacks}, and {path} is missing.", remedy)
        with uploaded_split(split, connection.profile) as content:
            if sha256_of(content) != file["sha256"]:
                raise FinetuneError(f"{lacks}, and {path} has another content now.", remedy)
        replay = replay_file() if split == "train" else None
        uploaded[split] = upload_once(connection, path, replay, may_create, progress, say)
        say(f"{lacks}; the same content is there as {uploaded[split]['id']}.")
    return uploaded


def refuse_other_account(connection: Connection, fingerprint: str) -> None:
    """Raise FinetuneError where a commit has the model of this fine-tune, but the account has neither files nor job.

    Then the key is probably that of another account, where the job would be paid a second time.
    """
    name = connection.profile.name
    if name == "local":
        return
    for record in committed_models():
        if record.get("fingerprint") == fingerprint and record.get("provider") == name:
            raise FinetuneError(
                f"This fine-tune exists: a commit has its job {record['job']} at {name!r}. The account of this key has"
                " neither that job nor its files.",
                "Use a key of the account that trained it, and run the same command again. To train it in this account"
                " too, which costs again: finetune train --again",
            )
