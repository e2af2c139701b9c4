"""Files at the provider, found by their content: the same bytes are uploaded once."""

import codecs
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from finetune.core.callbacks import Progress, Say
from finetune.core.disk import read_note, sha256_of, write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import NOTES
from finetune.core.profiles import Profile
from finetune.core.records import UploadNote
from finetune.provider.connect import Connection
from finetune.provider.create_once import create_once
from finetune.provider.locks import exclusive_lock

if TYPE_CHECKING:
    from openai.types import FileObject

PART_BYTES = 64 * 1024 * 1024  # the largest part of an upload
UPLOAD_TIMEOUT = 600  # seconds for one request

Purpose = Literal["fine-tune", "batch"]


@contextmanager
def uploaded_form(path: Path, profile: Profile) -> Iterator[Path]:
    """Give the file as it is uploaded: a copy with a byte-order mark before it, for servers that require one."""
    if not profile.byte_order_mark:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        marked = Path(folder) / path.name
        with open(path, "rb") as source, open(marked, "wb") as target:
            target.write(codecs.BOM_UTF8)
            shutil.copyfileobj(source, target)
        yield marked


def ensure_file(
    connection: Connection, path: Path, may_create: Callable[[], None], progress: Progress, say: Say
) -> tuple[str, bool]:
    """Return the ID of a processed fine-tuning file with this content, and whether it was uploaded now.

    A file's name at the provider is the SHA-256 of its content. `may_create` is called before anything is sent, and may
    raise. Raises FinetuneError when the file is too large for the provider, or the provider cannot read it.
    """
    name, size = f"{sha256_of(path)}.jsonl", path.stat().st_size
    with exclusive_lock(connection.identity, name):
        file = find(connection, name, size)
        is_new = file is None
        if file is None:
            may_create()
            file = send(connection, path, name, size, progress, say)
    file = connection.control.files.wait_for_processing(file.id)
    if file.status == "error":
        raise FinetuneError(
            f"The provider could not read {path}: {file.status_details or 'no reason given'}",
            "Upload it again with: dvc repro -f -s upload",
        )
    return file.id, is_new


def find(connection: Connection, name: str, size: int, purpose: Purpose = "fine-tune") -> "FileObject | None":
    """Return the oldest file of this name and size, unless the provider could not read it."""
    same = [
        file
        for file in connection.control.files.list(purpose=purpose)
        if file.filename == name and file.bytes == size and file.status not in ("error", "deleted")
    ]
    return min(same, key=lambda file: (file.created_at, file.id), default=None)


def send(
    connection: Connection,
    path: Path,
    name: str,
    size: int,
    progress: Progress,
    say: Say,
    purpose: Purpose = "fine-tune",
) -> "FileObject":
    """Upload a file once, in parts where it is larger than the provider takes in one request.

    Raises FinetuneError where it is too large, and the provider takes no parts.
    """
    profile = connection.profile
    if size > profile.file_bytes and not profile.uploads:
        raise FinetuneError(
            f"{path} has {size:,} bytes; {profile.name!r} takes {profile.file_bytes:,} at most. Nothing was sent.",
            "Train on fewer or shorter examples.",
        )
    create: Callable[[], FileObject] = (
        partial(send_whole, connection, path, name, purpose)
        if size <= profile.file_bytes
        else partial(complete, connection, path, *send_parts(connection, path, name, size, progress, purpose))
    )
    return create_once(create, lambda: find(connection, name, size, purpose), "file", say)


def send_whole(connection: Connection, path: Path, name: str, purpose: Purpose) -> "FileObject":
    """Upload a file in one request."""
    with open(path, "rb") as file:
        return connection.once.files.create(file=(name, file), purpose=purpose, timeout=UPLOAD_TIMEOUT)


def send_parts(
    connection: Connection, path: Path, name: str, size: int, progress: Progress, purpose: Purpose
) -> tuple[str, list[str]]:
    """Send the parts of a large file; return the IDs of the upload and of its parts.

    A run that was killed continues after the last part that arrived.
    """
    uploads = connection.control.uploads
    path_of_note = NOTES / f"upload-{name}.json"
    note = cast("UploadNote", read_note(path_of_note))
    if note.get("identity") != connection.identity or note["expires_at"] < time.time() + 60:
        upload = uploads.create(filename=name, bytes=size, purpose=purpose, mime_type="text/jsonl")
        note = {"identity": connection.identity, "id": upload.id, "expires_at": upload.expires_at, "parts": []}
        write_json(path_of_note, note)
    with open(path, "rb") as file:
        file.seek(len(note["parts"]) * PART_BYTES)
        while part := file.read(PART_BYTES):
            note["parts"].append(uploads.parts.create(note["id"], data=part, timeout=UPLOAD_TIMEOUT).id)
            write_json(path_of_note, note)
            progress(min(size, len(note["parts"]) * PART_BYTES), size, "bytes")
    path_of_note.unlink()  # the parts can be made a file once, so no later run may use them
    return note["id"], note["parts"]


def complete(connection: Connection, path: Path, upload_id: str, part_ids: list[str]) -> "FileObject":
    """Make a file of the parts that were sent. Raises FinetuneError where the provider makes none."""
    file = connection.once.uploads.complete(upload_id, part_ids=part_ids, timeout=UPLOAD_TIMEOUT).file
    if file is None:
        raise FinetuneError(
            f"The provider took {path} in parts but made no file of them.", "Run the same command again."
        )
    return file
