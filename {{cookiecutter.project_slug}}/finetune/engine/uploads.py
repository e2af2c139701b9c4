"""How bytes come in: a file in one piece, or an upload in parts, as long as a disk and never all of it in memory."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from finetune.engine.api_errors import ApiError
from finetune.engine.store import Row, Store, new_id

PURPOSES = ("fine-tune", "batch", "assistants", "vision", "user_data", "evals")
# OpenAI's limits: bytes of an upload and of a part, and the seconds that an upload may take.
MAX_UPLOAD = 8 * 1024**3
MAX_PART = 64 * 1024**2
LIFETIME = 3600
PIECE = 1024**2


def add_file(store: Store, filename: str, purpose: Any, content: BinaryIO) -> str:
    """The ID of a new file. Raises ApiError for an unknown purpose, and for a training file that is no JSONL."""
    check_purpose(purpose)
    return store.add_file(filename, purpose, pieces(content), check_jsonl if purpose == "fine-tune" else None)


def check_purpose(purpose: Any) -> None:
    if purpose not in PURPOSES:
        raise ApiError(400, f"'purpose' must be one of {', '.join(PURPOSES)}.", "invalid_value", "purpose")


def pieces(content: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: content.read(PIECE), b"")


def check_jsonl(path: Path) -> None:
    """The shallow check that OpenAI makes at upload: every line is a JSON object."""
    with open(path, "rb") as lines:
        for index, line in enumerate(lines, 1):
            if line.strip():
                try:
                    right = isinstance(json.loads(line), dict)
                except ValueError:
                    right = False
                if not right:
                    raise ApiError(
                        400,
                        "Expected file to have JSONL format, where every line is a JSON dictionary."
                        f" Line {index} is not a dictionary.",
                        None,
                        "file",
                    )


# Uploads: a part is a file in uploads/<upload>/<part>, written whole before the row that names it.


def create(store: Store, body: dict[str, Any]) -> Row:
    """A new upload that waits for its parts."""
    for key in sorted(set(body) - {"filename", "purpose", "bytes", "mime_type"}):
        raise ApiError(400, f"This server does not support '{key}'.", "unsupported_parameter", key)
    for key in ("filename", "mime_type"):
        if not isinstance(body.get(key), str):
            raise ApiError(400, f"'{key}' must be a string.", "invalid_value", key)
    check_purpose(body.get("purpose"))
    size = body.get("bytes")
    if not isinstance(size, int) or not 1 <= size <= MAX_UPLOAD:
        raise ApiError(400, f"'bytes' must be an integer from 1 to {MAX_UPLOAD}.", "invalid_value", "bytes")
    expire(store)
    upload_id = new_id("upload_")
    folder_of(store, upload_id).mkdir()
    store.execute(
        "INSERT INTO uploads (id, created_at, filename, purpose, bytes, status) VALUES (?, ?, ?, ?, ?, 'pending')",
        upload_id,
        int(time.time()),
        body["filename"],
        body["purpose"],
        size,
    )
    return get(store, upload_id)


def add_part(store: Store, upload_id: str, content: BinaryIO) -> Row:
    """A new part of a pending upload."""
    folder = folder_of(store, pending(store, upload_id)["id"])
    part_id = new_id("part_")
    size = 0
    with open(folder / part_id, "wb") as out:
        for piece in pieces(content):
            size += out.write(piece)
    if size > MAX_PART:
        (folder / part_id).unlink()
        raise ApiError(400, f"A part has at most {MAX_PART} bytes; this one has {size}.", "invalid_value", "data")
    part = {"id": part_id, "upload": upload_id, "created_at": int(time.time())}
    store.execute("INSERT INTO parts (id, upload, created_at) VALUES (?, ?, ?)", *part.values())
    return part


def complete(store: Store, upload_id: str, body: dict[str, Any]) -> tuple[Row, str]:
    """The upload and the ID of the file that its parts make. Raises ApiError, and leaves it pending, where they do not
    make the file that was announced."""
    upload = pending(store, upload_id)
    paths = [folder_of(store, upload_id) / name for name in part_names(store, upload_id, body.get("part_ids"))]
    md5 = body.get("md5")

    digest = hashlib.md5(usedforsecurity=False)

    def joined() -> Iterator[bytes]:
        for path in paths:
            with open(path, "rb") as content:
                for piece in pieces(content):
                    digest.update(piece)
                    yield piece

    def check(path: Path) -> None:
        size = path.stat().st_size
        if size != upload["bytes"]:
            why = f"The parts have {size} bytes in all, but the upload was announced with {upload['bytes']}."
            raise ApiError(400, why, "invalid_value", "part_ids")
        if md5 is not None and str(md5).lower() != digest.hexdigest():
            raise ApiError(400, f"The parts have the MD5 {digest.hexdigest()}, not {md5}.", "invalid_value", "md5")
        if upload["purpose"] == "fine-tune":
            check_jsonl(path)

    file_id = store.add_file(upload["filename"], upload["purpose"], joined(), check)
    if not end(store, upload_id, "completed"):  # another request was faster
        store.delete_file(file_id)
        pending(store, upload_id)
    return get(store, upload_id), file_id


def part_names(store: Store, upload_id: str, asked: Any) -> Sequence[str]:
    known = {row["id"] for row in store.rows("SELECT id FROM parts WHERE upload = ?", upload_id)}
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise ApiError(400, "'part_ids' must be an array of the IDs of parts.", "invalid_value", "part_ids")
    for name in asked:
        if name not in known:
            raise ApiError(400, f"Upload {upload_id} has no part {name!r}.", "invalid_value", "part_ids")
    return asked


def cancel(store: Store, upload_id: str) -> Row:
    """The upload, cancelled, and its parts gone."""
    pending(store, upload_id)
    end(store, upload_id, "cancelled")
    return get(store, upload_id)


def get(store: Store, upload_id: str) -> Row:
    row = store.row("SELECT * FROM uploads WHERE id = ?", upload_id)
    if row is None:
        raise ApiError(404, f"No such Upload object: {upload_id}", None, "upload_id")
    return row


def pending(store: Store, upload_id: str) -> Row:
    """The upload, if it still takes parts."""
    expire(store)
    upload = get(store, upload_id)
    if upload["status"] != "pending":
        raise ApiError(400, f"Upload {upload_id} is {upload['status']}, not pending.", "invalid_state", "upload_id")
    return upload


def expire(store: Store) -> None:
    """End the uploads that took too long."""
    late = time.time() - LIFETIME
    for row in store.rows("SELECT id FROM uploads WHERE status = 'pending' AND created_at <= ?", late):
        end(store, row["id"], "expired")


def end(store: Store, upload_id: str, status: str) -> bool:
    """Set the status of a pending upload and remove its parts; whether it was still pending."""
    was_pending = "UPDATE uploads SET status = ? WHERE id = ? AND status = 'pending'"
    if not store.execute(was_pending, status, upload_id):
        return False
    shutil.rmtree(folder_of(store, upload_id), ignore_errors=True)
    return True


def folder_of(store: Store, upload_id: str) -> Path:
    return store.home / "uploads" / upload_id
