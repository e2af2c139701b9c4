"""Batches of requests: created, read and cancelled, and the changes of their status."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import TypedDict

from finetune.engine.api_errors import ApiError
from finetune.engine.ids import new_id
from finetune.engine.schema import BatchRow
from finetune.engine.store import Store

UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")


class BatchError(TypedDict):
    """An entry of OpenAI's `errors` list: what is wrong with the input file, and in which line."""

    code: str
    message: str
    param: str | None
    line: int | None


def create(
    store: Store,
    input_file_id: str,
    metadata: Mapping[str, str] | None,
    endpoint: str = "/v1/chat/completions",
    output_expires_after: int | None = None,
) -> BatchRow:
    """Create a batch in `validating`. Raises ApiError for a file that is missing or has another purpose.

    Its result files expire `output_expires_after` seconds after their creation.
    """
    file = store.file(input_file_id)
    if file is None:
        why = "has expired: upload the file again" if store.kept_file(input_file_id) else "does not exist"
        raise ApiError(400, f"input_file_id {input_file_id!r} {why}.", "invalid_file", "input_file_id")
    if file["purpose"] != "batch":
        message = f"input_file_id {input_file_id!r} has purpose {file['purpose']!r}, not 'batch'."
        raise ApiError(400, message, "invalid_file", "input_file_id")
    batch_id = new_id("batch_")
    with store.transaction() as db:
        db.execute(
            "INSERT INTO batches (id, created_at, status, input_file, metadata, endpoint, output_expires_after)"
            " VALUES (?, ?, 'validating', ?, ?, ?, ?)",
            (
                batch_id,
                int(time.time()),
                input_file_id,
                json.dumps(metadata, sort_keys=True) if metadata else None,
                endpoint,
                output_expires_after,
            ),
        )
        return get(store, batch_id)


def get(store: Store, batch_id: str) -> BatchRow:
    """Return a batch. Raises ApiError if there is none of this ID."""
    row: BatchRow | None = store.row("SELECT * FROM batches WHERE id = ?", batch_id)
    if row is None:
        raise ApiError(404, f"No such Batch object: {batch_id}", None, "batch_id")
    return row


def cancel(store: Store, batch_id: str) -> BatchRow:
    """Cancel a batch: it sends no more requests, and its files will hold the answers that it has by then.

    Raises ApiError if the batch has ended or is ending.
    """
    get(store, batch_id)
    if not set_status(store, batch_id, "cancelling", ("validating", "in_progress")):
        status = get(store, batch_id)["status"]
        raise ApiError(400, f"Batch {batch_id} is {status}: it cannot be cancelled.", "invalid_state", "batch_id")
    return get(store, batch_id)


def fail(store: Store, batch_id: str, errors: Sequence[BatchError]) -> None:
    """End a batch without files, and store what is wrong with its input."""
    set_status(store, batch_id, "failed", UNFINISHED, errors=json.dumps(errors))
    results_path(store, batch_id).unlink(missing_ok=True)


def set_status(store: Store, batch_id: str, status: str, from_statuses: Sequence[str], **columns: object) -> bool:
    """Set a batch's status, the time of it and other columns if its status is one of `from_statuses`.

    Returns whether it was set.
    """
    values = {"status": status, f"{status}_at": int(time.time()), **columns}
    return store.set_status("batches", batch_id, from_statuses, values)


def input_path(store: Store, batch_id: str) -> Path:
    """Return the file of the batch's requests. Raises ApiError if it was deleted or is not what was uploaded."""
    file_id = get(store, batch_id)["input_file"]
    path = store.file_path(file_id)
    if store.kept_file(file_id) is None or not path.is_file():
        raise ApiError(400, f"The input file {file_id!r} was deleted.", "invalid_file", "input_file_id")
    if store.is_damaged(path):
        what = f"The input file {file_id!r} on the server's disk is not what was uploaded. Upload it again."
        raise ApiError(400, what, "invalid_file", "input_file_id")
    return path


def results_path(store: Store, batch_id: str) -> Path:
    """Return the file to which the results of an unfinished batch are appended."""
    return store.home / "batches" / f"{batch_id}.jsonl"
