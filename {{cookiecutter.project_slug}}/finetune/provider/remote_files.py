"""Files at the provider, found by their content: the same bytes are uploaded once."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune.core.callbacks import Progress
from finetune.core.disk import read_note, write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import NOTES
from finetune.provider.connect import Connection
from finetune.provider.locks import alone

if TYPE_CHECKING:
    from openai.types import FileObject

PART_BYTES = 64 * 1024 * 1024  # the largest part of an upload
LOOKS = (0, 1, 2, 4)  # seconds before each look for a file whose upload got no answer

Purpose = Literal["fine-tune", "batch"]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def ensure_file(
    connection: Connection, path: Path, may_create: Callable[[], None], progress: Progress
) -> tuple[str, bool]:
    """The ID of a processed fine-tuning file with this content, and whether it is new or was there already.

    A file's name at the provider is the SHA-256 of its content. `may_create` is called before anything is sent, and may
    raise. Raises FinetuneError when the file is too large for the provider, or the provider cannot read it.
    """
    name, size = f"{sha256_of(path)}.jsonl", path.stat().st_size
    with alone(connection.identity, name):
        file = find(connection, name, size)
        is_new = file is None
        if file is None:
            may_create()
            file = send(connection, path, name, size, progress)
    file = connection.control.files.wait_for_processing(file.id)
    if file.status == "error":
        raise FinetuneError(
            f"The provider could not read {path}: {file.status_details or 'no reason given'}",
            "Upload it again with: dvc repro -f -s upload",
        )
    return file.id, is_new


def find(connection: Connection, name: str, size: int, purpose: Purpose = "fine-tune") -> "FileObject | None":
    """The oldest file of that name and size, unless the provider could not read it."""
    same = [
        file
        for file in connection.control.files.list(purpose=purpose)
        if file.filename == name and file.bytes == size and file.status not in ("error", "deleted")
    ]
    return min(same, key=lambda file: (file.created_at, file.id), default=None)


def send(
    connection: Connection, path: Path, name: str, size: int, progress: Progress, purpose: Purpose = "fine-tune"
) -> "FileObject":
    """A new file at the provider; where the answer is lost, the file is looked for before anybody sends it again."""
    import openai

    profile = connection.profile
    try:
        if size > profile.file_bytes and profile.uploads:
            return send_in_parts(connection, path, name, size, progress, purpose)
        if size > profile.file_bytes:
            raise FinetuneError(
                f"{path} has {size:,} bytes; {profile.name!r} takes {profile.file_bytes:,} at most. Nothing was sent.",
                "Train on fewer examples, or shorter ones.",
            )
        with open(path, "rb") as file:
            return connection.once.files.create(file=(name, file), purpose=purpose, timeout=600)
    except (openai.APIConnectionError, openai.InternalServerError):
        for pause in LOOKS:
            time.sleep(pause)
            found = find(connection, name, size, purpose)
            if found is not None:
                return found
        raise


def send_in_parts(
    connection: Connection, path: Path, name: str, size: int, progress: Progress, purpose: Purpose
) -> "FileObject":
    """Upload a large file in parts; a run that was killed goes on after the last part that arrived."""
    uploads = connection.control.uploads
    note = NOTES / f"upload-{name}.json"
    begun = read_note(note)
    if begun.get("identity") != connection.identity or begun["expires_at"] < time.time() + 60:
        upload = uploads.create(filename=name, bytes=size, purpose=purpose, mime_type="text/jsonl")
        begun = {"identity": connection.identity, "id": upload.id, "expires_at": upload.expires_at, "parts": []}
        write_json(note, begun)
    with open(path, "rb") as file:
        file.seek(len(begun["parts"]) * PART_BYTES)
        while part := file.read(PART_BYTES):
            begun["parts"].append(uploads.parts.create(begun["id"], data=part, timeout=600).id)
            write_json(note, begun)
            progress(min(size, len(begun["parts"]) * PART_BYTES), size, "bytes")
    note.unlink()  # whatever comes now, these parts are spent
    file_made = connection.once.uploads.complete(begun["id"], part_ids=begun["parts"], timeout=600).file
    if file_made is None:
        raise FinetuneError(
            f"The provider took {path} in parts and made no file of them.", "Run the same command again."
        )
    return file_made
