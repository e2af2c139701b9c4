"""The JSON objects of OpenAI's API, made of rows of the database, with every field that its specification requires."""

from typing import Any

from finetune.engine.request_body import parse_json
from finetune.engine.schema import (
    BatchRow,
    CheckpointRow,
    EventRow,
    FileRow,
    JobRow,
    PartRow,
    PermissionRow,
    UploadRow,
)
from finetune.engine.uploads import LIFETIME

Json = dict[str, object]  # an object of an answer
ORGANIZATION = "org-local"  # the one organisation of this server
UNREADABLE = {"code": "damaged_record", "message": "The stored reason cannot be read.", "param": None}


def stored(text: str | None, kind: type) -> Any:
    """Return the JSON value of a column. None where it is damaged: the object is still shown, and the list it is in."""
    try:
        found = parse_json(text) if text else None
    except (ValueError, TypeError):
        return None
    return found if isinstance(found, kind) else None


def file_object(row: FileRow) -> Json:
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": "processed",
        **({} if row["expires_at"] is None else {"expires_at": row["expires_at"]}),
    }


def upload_object(row: UploadRow, file: FileRow | None = None) -> Json:
    return {
        "id": row["id"],
        "object": "upload",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "expires_at": row["created_at"] + LIFETIME,
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": row["status"],
        "file": file_object(file) if file else None,
    }


def part_object(row: PartRow) -> Json:
    return {
        "id": row["id"],
        "object": "upload.part",
        "created_at": row["created_at"],
        "upload_id": row["upload"],
    }


def job_object(row: JobRow) -> Json:
    """Return the job. Until the files are validated, `auto` is not resolved in its hyperparameters, as at OpenAI.

    What `auto` means for the base is known when training starts.
    """
    hyperparameters, method = stored(row["resolved"], dict) or stored(row["asked"], dict) or {}, row["method"]
    return {
        "id": row["id"],
        "object": "fine_tuning.job",
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
        "estimated_finish": None,
        "model": row["model"],
        "fine_tuned_model": row["fine_tuned_model"],
        "organization_id": ORGANIZATION,
        "status": row["status"],
        "error": (stored(row["error"], dict) or UNREADABLE) if row["error"] else None,
        "training_file": row["training_file"],
        "validation_file": row["validation_file"],
        "result_files": [row["result_file"]] if row["result_file"] else [],
        "trained_tokens": row["trained_tokens"],
        "seed": row["seed"],
        "hyperparameters": hyperparameters,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "metadata": stored(row["metadata"], dict),
        "integrations": stored(row["integrations"], list) or [],
        "user_provided_suffix": row["suffix"],
        # Besides the data and the seed, the bytes of the adapter depend on these two.
        "threads": row["threads"],
        "dtype": row["dtype"],
    }


def event_object(row: EventRow) -> Json:
    return {
        "id": row["id"],
        "object": "fine_tuning.job.event",
        "created_at": row["created_at"],
        "level": row["level"],
        "type": row["type"],
        "message": row["message"],
        "data": stored(row["data"], dict) or {},
    }


def checkpoint_object(row: CheckpointRow) -> Json:
    """Return the checkpoint. Its `result_files` are the IDs of the adapter's files, as at Nebius."""
    return {
        "id": row["id"],
        "object": "fine_tuning.job.checkpoint",
        "created_at": row["created_at"],
        "fine_tuned_model_checkpoint": row["model"],
        "fine_tuning_job_id": row["job"],
        "step_number": row["step"],
        "metrics": stored(row["metrics"], dict) or {},
        "result_files": stored(row["files"], list) or [],
    }


def permission_object(row: PermissionRow) -> Json:
    return {
        "id": row["id"],
        "object": "checkpoint.permission",
        "created_at": row["created_at"],
        "project_id": row["project"],
    }


def batch_object(row: BatchRow) -> Json:
    """Return the batch. It has no `expires_at`, because batches of this server do not expire."""
    usage = stored(row["usage"], dict)
    return {
        "id": row["id"],
        "object": "batch",
        "endpoint": row["endpoint"],
        "model": row["model"],
        "errors": {"object": "list", "data": stored(row["errors"], list) or []} if row["errors"] else None,
        "input_file_id": row["input_file"],
        "completion_window": "24h",
        "status": row["status"],
        "output_file_id": row["output_file"],
        "error_file_id": row["error_file"],
        "created_at": row["created_at"],
        "in_progress_at": row["in_progress_at"],
        "finalizing_at": row["finalizing_at"],
        "completed_at": row["completed_at"],
        "failed_at": row["failed_at"],
        "cancelling_at": row["cancelling_at"],
        "cancelled_at": row["cancelled_at"],
        "expires_at": None,
        "expired_at": None,
        "request_counts": {"total": row["total"], "completed": row["completed"], "failed": row["failed"]},
        "usage": usage
        and {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
        "metadata": stored(row["metadata"], dict),
    }


def model_object(model_id: str, created: int, owner: str) -> Json:
    return {"id": model_id, "object": "model", "created": created, "owned_by": owner, "shutdown_date": None}


def deleted_object(kind: str, object_id: str) -> Json:
    return {"id": object_id, "object": kind, "deleted": True}
