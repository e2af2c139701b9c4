"""Files at the provider, found by their content: the same bytes are uploaded once."""

import codecs
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from finetune.core.callbacks import Progress, Say
from finetune.core.disk import read_note, sha256_of, write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import NOTES
from finetune.core.profiles import Profile
from finetune.core.records.requests import RequestNote, UploadNote
from finetune.provider.connect import Connection
from finetune.provider.create_once import Creation, create_once, find_by_note, is_made, keep_that_it_was_shown, list_lag
from finetune.provider.locks import exclusive_lock
from finetune.provider.paging import all_rows
from finetune.provider.request_notes import read_request_note

if TYPE_CHECKING:
    from openai.types import FileObject

PART_BYTES = 64 * 1024 * 1024  # the largest part of an upload
UPLOAD_TIMEOUT = 600  # seconds for one request
NAME = re.compile(r"[0-9a-f]{64}\.jsonl")  # of a file at the provider, by its content
PAUSE = 2.0  # seconds between two looks whether a new file is shown
UPLOAD_LASTS = 3600  # seconds until an upload expires, where the provider does not say it
SLOWEST = 1_000_000  # bytes of an upload in a second

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
    connection: Connection,
    path: Path,
    may_create: Callable[[], None],
    progress: Progress,
    say: Say,
    purpose: Purpose = "fine-tune",
    name: str | None = None,
) -> tuple[str, bool]:
    """Return the ID of a processed file with this content, and whether it was uploaded now.

    A file's name at the provider is the SHA-256 of its content, unless another is given. `may_create` is called before
    anything is sent, and may raise. Raises FinetuneError when the file is too large for the provider, or the provider
    cannot read it.
    """
    name, size = name or f"{sha256_of(path)}.jsonl", path.stat().st_size
    with exclusive_lock(connection.identity, name):
        whole = partial(send_whole, connection, path, name, purpose)
        find = partial(find_file, connection, name, size, purpose)
        is_ours = partial(has_content_of, name)
        creation = Creation(
            connection, f"{purpose} {name}", "file", "file", whole, find, say, size / SLOWEST, is_ours=is_ours
        )
        note = read_request_note(connection.identity, creation.key)
        file = find(note) or find_by_note(creation, note)
        if file is None:
            may_create()
            if takes_parts(connection.profile, path, size):
                # Before the note on the request that makes a file of them: a run that is killed here has made none.
                parts = send_parts(connection, path, name, size, progress, purpose)
                creation = replace(creation, send=partial(complete, connection, path, *parts))
            file = create_once(creation, lambda: nullcontext({}), [])
            try:
                processed(connection, file.id, path, is_new=True)
            except FinetuneError:  # it is there, but cannot be read
                keep_that_it_was_shown(creation)
                raise
            keep_that_it_was_shown(creation)
            return file.id, True
    return processed(connection, file.id, path), False


def has_content_of(name: str, file: "FileObject") -> bool:
    """Return whether a file's name is not that of another content. Some servers change names."""
    return file.filename == name or not NAME.fullmatch(file.filename or "")


def find_file(
    connection: Connection, name: str, size: int, purpose: Purpose, note: RequestNote | None
) -> "FileObject | None":
    """Return the oldest file of this name and size, unless the provider could not read it.

    The file of the note counts even where the list lags behind, or the server has changed its name.
    """
    import openai

    files = connection.control.files
    same = [file for file in all_rows(files.list(purpose=purpose)) if file.filename == name and file.bytes == size]
    if note and "id" in note:
        with suppress(openai.NotFoundError):
            same.append(files.retrieve(note["id"]))
    readable = (file for file in same if file.status not in ("error", "deleted"))
    return min(readable, key=lambda file: (file.created_at or 0, file.id), default=None)


def processed(connection: Connection, file_id: str, path: Path, is_new: bool = False) -> str:
    """Return the ID of a file as soon as the provider has read it. Raises FinetuneError if it cannot.

    A new file may not be shown yet: then it is asked for again, as long as a list may lack it.
    """
    import openai

    end = time.monotonic() + (list_lag(connection) if is_new else 0)
    try:
        while True:
            try:
                file = connection.control.files.wait_for_processing(file_id)
                break
            except openai.NotFoundError:
                if time.monotonic() >= end:
                    raise
                time.sleep(PAUSE)
    except RuntimeError as error:  # the SDK's, after half an hour
        raise FinetuneError(
            f"The provider has not read {path} (file {file_id}) in half an hour.",
            "Run the same command again later: the file is found, and not sent again.",
        ) from error
    if file.status == "error":
        raise FinetuneError(
            f"The provider could not read {path}: {file.status_details or 'no reason given'}",
            "Correct what the message names, then run the same command again.",
        )
    return file.id


def takes_parts(profile: Profile, path: Path, size: int) -> bool:
    """Return whether a file is too large for one request. Raises FinetuneError where the provider takes no parts."""
    if size > profile.file_bytes and not profile.uploads:
        raise FinetuneError(
            f"{path} has {size:,} bytes; {profile.name!r} takes {profile.file_bytes:,} at most. Nothing was sent.",
            "Train on fewer or shorter examples.",
        )
    return size > profile.file_bytes


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
    import openai

    uploads = connection.control.uploads
    path_of_note = NOTES / f"upload-{name}.json"
    note = cast("UploadNote", read_note(path_of_note, UploadNote))
    if (
        not UploadNote.__required_keys__ <= note.keys()
        or note.get("identity") != connection.identity
        or note["expires_at"] < connection.clock.now() + 60
    ):
        upload = uploads.create(filename=name, bytes=size, purpose=purpose, mime_type="text/jsonl")
        refuse_other(upload, "upload", path)
        expires_at = int(upload.expires_at or connection.clock.now() + UPLOAD_LASTS)
        note = {"identity": connection.identity, "id": upload.id, "expires_at": expires_at, "parts": []}
        write_json(path_of_note, note)
    with open(path, "rb") as file:
        file.seek(len(note["parts"]) * PART_BYTES)
        while part := file.read(PART_BYTES):
            try:
                sent = uploads.parts.create(note["id"], data=part, timeout=UPLOAD_TIMEOUT)
            except openai.APIStatusError as error:
                if error.status_code in (400, 404, 410):  # the upload has ended: the next run begins another
                    path_of_note.unlink()
                raise
            refuse_other(sent, "upload.part", path)
            note["parts"].append(sent.id)
            write_json(path_of_note, note)
            progress(min(size, len(note["parts"]) * PART_BYTES), size, "bytes")
    path_of_note.unlink()  # the parts can be made a file once, so no later run may use them
    return note["id"], note["parts"]


def refuse_other(answer: object, type_of_object: str, path: Path) -> None:
    """Raise FinetuneError if an answer is not the upload, or the part of one, that it should be."""
    if not is_made(answer, type_of_object):
        raise FinetuneError(
            f"The provider took {path} in parts and answered without an ID: {str(answer)[:200]}",
            "Run the same command again: it continues after the last part that arrived.",
        )


def complete(connection: Connection, path: Path, upload_id: str, part_ids: list[str]) -> "FileObject":
    """Make a file of the parts that were sent. Raises FinetuneError where the provider makes none."""
    file = connection.once.uploads.complete(upload_id, part_ids=part_ids, timeout=UPLOAD_TIMEOUT).file
    if file is None:
        raise FinetuneError(
            f"The provider took {path} in parts but made no file of them.", "Run the same command again."
        )
    return file
