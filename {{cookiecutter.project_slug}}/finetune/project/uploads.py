"""Upload the files of jobs, each content once, and note which files this clone uploaded."""

from collections.abc import Callable
from pathlib import Path

from finetune.core.callbacks import Progress, Say
from finetune.core.disk import count_lines, read_note, sha256_of, write_json
from finetune.core.paths import NOTES
from finetune.core.records import UploadedFile
from finetune.project.claims import claim_file
from finetune.provider.connect import Connection
from finetune.provider.remote_files import ensure_file
from finetune.provider.training_file import uploaded_mix

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
