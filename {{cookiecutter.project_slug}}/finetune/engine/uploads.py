"""Files that clients send: whole, or as an upload in parts. They are written in chunks and never held in memory."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from finetune.engine.api_errors import ApiError
from finetune.engine.home import private
from finetune.engine.ids import new_id
from finetune.engine.jsonl import numbered_lines, parse_object
from finetune.engine.schema import PartRow, UploadRow
from finetune.engine.store import Store

Purpose = Literal["fine-tune", "batch", "assistants", "vision", "user_data"]

# OpenAI's limits: bytes of a file, an upload and a part, and the seconds until a pending upload expires.
MAX_FILE = 512 * 1024**2
MAX_UPLOAD = 8 * 1024**3
MAX_PART = 64 * 1024**2
TRIES = 3  # all parts of an upload have at most this many times its size: a client may send a part again
LIFETIME = 3600
MAX_FILENAME = 1024  # characters
CHUNK = 1024**2  # bytes that are read at a time


def add_file(store: Store, filename: str, purpose: Purpose, content: BinaryIO, expires_after: int | None = None) -> str:
    """Store a file and return its ID. Raises ApiError for one too large, and for a training file that is not JSONL."""
    store.delete_expired_files()
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    if size > MAX_FILE:
        raise too_large("file", "A file", MAX_FILE, size)
    check = check_jsonl if purpose == "fine-tune" else None
    return store.add_file(filename, purpose, chunks(content), check, expires_after)


def too_large(param: str, what: str, limit: int, size: int) -> ApiError:
    message = f"{what} has at most {limit:,} bytes; this one has {size:,}."
    return ApiError(413, message, "request_too_large", param)


def chunks(content: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: content.read(CHUNK), b"")


def check_jsonl(path: Path) -> None:
    """Raise ApiError unless every line is a JSON object. OpenAI checks no more than that at upload."""
    for number, line in numbered_lines(path):
        try:
            parse_object(line)
        except ValueError as error:
            raise ApiError(
                400,
                "Expected file to have JSONL format, where every line is a JSON dictionary."
                f" Line {number} is not a dictionary ({error}).",
                None,
                "file",
            ) from error


# Uploads: a part is the file uploads/<upload>/<part>, and is complete on the disk before its row is added.


def create(store: Store, filename: str, purpose: Purpose, size: int, expires_after: int | None = None) -> UploadRow:
    """Create a pending upload for a file of `size` bytes, which expires `expires_after` seconds after its creation."""
    expire_old(store)
    store.delete_expired_files()
    upload_id = new_id("upload_")
    folder = parts_folder(store, upload_id)
    folder.mkdir(mode=0o700)
    try:
        with store.transaction() as db:
            db.execute(
                "INSERT INTO uploads (id, created_at, filename, purpose, bytes, status, expires_after)"
                " VALUES (?, ?, ?, ?, ?, 'pending', ?)",
                (upload_id, int(time.time()), filename, purpose, size, expires_after),
            )
            return get(store, upload_id)
    except BaseException:
        folder.rmdir()
        raise


def add_part(store: Store, upload_id: str, content: BinaryIO) -> PartRow:
    """Add a part to a pending upload. If anything fails, nothing of the part stays.

    Raises ApiError for a part that is too large, or that makes all parts too large for what was announced.
    """
    upload = get_pending(store, upload_id)
    folder = parts_folder(store, upload_id)
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    if size > MAX_PART:
        raise too_large("data", "A part", MAX_PART, size)
    if size > upload["bytes"]:
        what = f"Upload {upload_id} was announced with {upload['bytes']:,} bytes; this part alone has {size:,}."
        raise ApiError(400, what, "invalid_value", "data")
    part: PartRow = {"id": new_id("part_"), "upload": upload_id, "created_at": int(time.time())}
    path = folder / part["id"]
    try:
        if sum(one.stat().st_size for one in folder.iterdir()) + size > TRIES * upload["bytes"]:
            what = f"The parts of upload {upload_id} have more than {TRIES} times the {upload['bytes']:,} bytes that"
            raise ApiError(400, f"{what} were announced. Complete it, or cancel it and create another.", None, "data")
        with open(path, "wb", opener=private) as out:
            for chunk in chunks(content):
                out.write(chunk)
        store.execute("INSERT INTO parts (id, upload, created_at) VALUES (?, ?, ?)", *part.values())
    except FileNotFoundError:  # another request has ended the upload and removed its folder
        get_pending(store, upload_id)
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return part


def complete(store: Store, upload_id: str, part_ids: Sequence[str], md5: str | None) -> tuple[UploadRow, str]:
    """Join the parts of a pending upload, in the order of `part_ids`. Returns the upload and the ID of the new file.

    Raises ApiError if the size, the MD5 or the content is not what was announced. The upload is then still pending.
    """
    upload = get_pending(store, upload_id)
    paths = part_paths(store, upload_id, part_ids)
    digest = hashlib.md5(usedforsecurity=False)

    def check(path: Path) -> None:
        if md5 is not None and md5.lower() != digest.hexdigest():
            raise ApiError(400, f"The parts have the MD5 {digest.hexdigest()}, not {md5}.", "invalid_value", "md5")
        if upload["purpose"] == "fine-tune":
            check_jsonl(path)

    try:
        size = sum(path.stat().st_size for path in paths)  # before they are joined: a request may name a part often
        if size != upload["bytes"]:
            message = f"The parts have {size} bytes in all, but the upload was announced with {upload['bytes']}."
            raise ApiError(400, message, "invalid_value", "part_ids")
        content = joined(paths, digest)
        file_id = store.add_file(upload["filename"], upload["purpose"], content, check, upload["expires_after"])
    except FileNotFoundError:  # another request has ended the upload and removed its folder
        get_pending(store, upload_id)
        raise
    try:
        if not end_pending(store, upload_id, "completed"):  # another request ended the upload in the meantime
            get_pending(store, upload_id)
        return get(store, upload_id), file_id
    except BaseException:
        store.take_back_file(file_id)
        raise


def part_paths(store: Store, upload_id: str, part_ids: Sequence[str]) -> list[Path]:
    """Return the files of an upload's parts. Raises ApiError for an ID that is not of this upload."""
    known = {row["id"] for row in store.rows("SELECT id FROM parts WHERE upload = ?", upload_id)}
    for part_id in part_ids:
        if part_id not in known:
            raise ApiError(400, f"Upload {upload_id} has no part {part_id!r}.", "invalid_value", "part_ids")
    return [parts_folder(store, upload_id) / part_id for part_id in part_ids]


def joined(paths: Iterable[Path], digest: "hashlib._Hash") -> Iterator[bytes]:
    """Yield the content of files one after the other, and add it to `digest`."""
    for path in paths:
        with open(path, "rb") as content:
            for chunk in chunks(content):
                digest.update(chunk)
                yield chunk


def cancel(store: Store, upload_id: str) -> UploadRow:
    """Cancel a pending upload and remove its parts."""
    get_pending(store, upload_id)
    end_pending(store, upload_id, "cancelled")
    return get(store, upload_id)


def get(store: Store, upload_id: str) -> UploadRow:
    """Return an upload. Raises ApiError if there is none of this ID."""
    row: UploadRow | None = store.row("SELECT * FROM uploads WHERE id = ?", upload_id)
    if row is None:
        raise ApiError(404, f"No such Upload object: {upload_id}", None, "upload_id")
    return row


def get_pending(store: Store, upload_id: str) -> UploadRow:
    """Return an upload that still accepts parts. Raises ApiError if it has ended."""
    expire_old(store)
    upload = get(store, upload_id)
    if upload["status"] != "pending":
        raise ApiError(400, f"Upload {upload_id} is {upload['status']}, not pending.", "invalid_state", "upload_id")
    return upload


def expire_old(store: Store) -> None:
    """End the pending uploads that are older than LIFETIME."""
    oldest = time.time() - LIFETIME
    for row in store.rows("SELECT id FROM uploads WHERE status = 'pending' AND created_at <= ?", oldest):
        end_pending(store, row["id"], "expired")


def end_pending(store: Store, upload_id: str, status: str) -> bool:
    """Set the status of a pending upload and remove its parts. Returns whether the upload was still pending."""
    if not store.set_status("uploads", upload_id, ("pending",), {"status": status}):
        return False
    shutil.rmtree(parts_folder(store, upload_id), ignore_errors=True)
    return True


def parts_folder(store: Store, upload_id: str) -> Path:
    return store.home / "uploads" / upload_id
