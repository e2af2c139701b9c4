"""The engine's HTTP application: OpenAI's routes, the check of the API key, and the answers to errors."""

import errno
import hmac
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from finetune.engine.api.batch_routes import cancel_batch, create_batch, get_batch, list_batches
from finetune.engine.api.chat_routes import create_chat_completion
from finetune.engine.api.file_routes import create_file, delete_file, file_content, get_file, list_files
from finetune.engine.api.helpers import Engine, in_thread, with_body
from finetune.engine.api.job_routes import (
    cancel_job,
    create_job,
    get_job,
    list_checkpoints,
    list_events,
    list_jobs,
    pause_job,
    resume_job,
)
from finetune.engine.api.model_routes import delete_model, get_model, list_models, tokenize
from finetune.engine.api.requests import (
    BatchRequest,
    CompleteUploadRequest,
    JobRequest,
    TokenizeRequest,
    UploadRequest,
)
from finetune.engine.api.upload_routes import add_part, cancel_upload, complete_upload, create_upload
from finetune.engine.api_errors import ApiError, internal_error
from finetune.engine.batch_runner import BatchRunner
from finetune.engine.inference.generator import Generator
from finetune.engine.store import Store, new_id
from finetune.engine.worker_launcher import ensure_worker

STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
ROUTES = [
    Route("/v1/files", create_file, methods=["POST"]),
    Route("/v1/files", in_thread(list_files)),
    Route("/v1/files/{id}", in_thread(get_file)),
    Route("/v1/files/{id}", in_thread(delete_file), methods=["DELETE"]),
    Route("/v1/files/{id}/content", in_thread(file_content)),
    Route("/v1/uploads", with_body(UploadRequest, create_upload), methods=["POST"]),
    Route("/v1/uploads/{id}/parts", add_part, methods=["POST"]),
    Route("/v1/uploads/{id}/complete", with_body(CompleteUploadRequest, complete_upload), methods=["POST"]),
    Route("/v1/uploads/{id}/cancel", in_thread(cancel_upload), methods=["POST"]),
    Route("/v1/fine_tuning/jobs", with_body(JobRequest, create_job), methods=["POST"]),
    Route("/v1/fine_tuning/jobs", in_thread(list_jobs)),
    Route("/v1/fine_tuning/jobs/{id}", in_thread(get_job)),
    Route("/v1/fine_tuning/jobs/{id}/cancel", in_thread(cancel_job), methods=["POST"]),
    Route("/v1/fine_tuning/jobs/{id}/pause", in_thread(pause_job), methods=["POST"]),
    Route("/v1/fine_tuning/jobs/{id}/resume", in_thread(resume_job), methods=["POST"]),
    Route("/v1/fine_tuning/jobs/{id}/events", in_thread(list_events)),
    Route("/v1/fine_tuning/jobs/{id}/checkpoints", in_thread(list_checkpoints)),
    Route("/v1/batches", with_body(BatchRequest, create_batch), methods=["POST"]),
    Route("/v1/batches", in_thread(list_batches)),
    Route("/v1/batches/{id}", in_thread(get_batch)),
    Route("/v1/batches/{id}/cancel", in_thread(cancel_batch), methods=["POST"]),
    Route("/v1/models", in_thread(list_models)),
    Route("/v1/models/{id:path}", in_thread(get_model)),
    Route("/v1/models/{id:path}", in_thread(delete_model), methods=["DELETE"]),
    Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
    Route("/tokenize", with_body(TokenizeRequest, tokenize), methods=["POST"]),
]


def make_app(store: Store, key: str) -> Starlette:
    """Return the application. Every request must have the header `Authorization: Bearer <key>`."""
    generator = Generator(store)
    ensure_worker(store)
    handlers: dict[Any, Any] = {ApiError: on_api_error, HTTPException: on_http_error, Exception: on_crash}
    handlers |= {OSError: on_storage_error, sqlite3.Error: on_storage_error}
    app = Starlette(routes=ROUTES, exception_handlers=handlers)
    app.state.engine = Engine(store, generator, BatchRunner(store, generator))
    expected = f"Bearer {key}".encode()

    async def check_key(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return error_answer(
                ApiError(401, "Incorrect API key provided. Use the key of this server.", "invalid_api_key")
            )
        response = await call_next(request)
        response.headers["x-request-id"] = new_id("req_")
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=check_key)
    return app


def error_answer(error: ApiError) -> Response:
    return JSONResponse(error.envelope(), error.status)


async def on_api_error(request: Request, error: ApiError) -> Response:
    return error_answer(error)


async def on_http_error(request: Request, error: HTTPException) -> Response:
    return error_answer(ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}"))


async def on_storage_error(request: Request, error: OSError | sqlite3.Error) -> Response:
    """Answer a request that failed because the engine's folder is full, read-only or damaged."""
    if isinstance(error, OSError) and error.errno not in STORAGE_ERRORS:
        raise error
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    message = f"The engine cannot use its folder: {reason}. Free some disk space or correct it."
    answer = error_answer(ApiError(507, message, "storage_error"))
    if "locked" not in reason:
        answer.headers["x-should-retry"] = "false"
    return answer


async def on_crash(request: Request, error: Exception) -> Response:
    return error_answer(internal_error(error))
