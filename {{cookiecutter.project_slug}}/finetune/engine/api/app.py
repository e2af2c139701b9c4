"""The engine's HTTP application: OpenAI's routes inside the guard that every request passes."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from finetune.engine.api.batch_routes import cancel_batch, create_batch, get_batch, list_batches
from finetune.engine.api.completion_routes import complete
from finetune.engine.api.cors import Cors
from finetune.engine.api.file_routes import create_file, delete_file, file_content, get_file, list_files
from finetune.engine.api.guard import HEALTH, Guard, error_answer
from finetune.engine.api.helpers import ApiRoute, Engine, in_thread, with_body
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
from finetune.engine.api.model_routes import delete_model, get_model, list_models, load_adapter, tokenize
from finetune.engine.api.not_served import allowed_methods, instead_of
from finetune.engine.api.permission_routes import create_permissions, delete_permission, list_permissions
from finetune.engine.api.queries import CheckpointQuery, EventQuery, FileQuery, JobQuery, PageQuery, PermissionQuery
from finetune.engine.api.requests import (
    AdapterRequest,
    BatchRequest,
    CompleteUploadRequest,
    JobRequest,
    PermissionRequest,
    TokenizeRequest,
    UploadRequest,
)
from finetune.engine.api.upload_routes import add_part, cancel_upload, complete_upload, create_upload
from finetune.engine.api_errors import ApiError
from finetune.engine.batch_runner import BatchRunner
from finetune.engine.inference.endpoints import ENDPOINTS
from finetune.engine.inference.generator import Generator
from finetune.engine.store import Store
from finetune.engine.worker_launcher import ensure_worker

PERMISSIONS = "/v1/fine_tuning/checkpoints/{id:path}/permissions"


async def health(_: Request) -> Response:
    """Say that the server answers, and nothing else: this needs no key."""
    return JSONResponse({"status": "ok"})


ROUTES = [
    ApiRoute("/v1/files", create_file, methods=["POST"]),
    ApiRoute("/v1/files", in_thread(list_files), query=FileQuery),
    ApiRoute("/v1/files/{id}", in_thread(get_file)),
    ApiRoute("/v1/files/{id}", in_thread(delete_file), methods=["DELETE"]),
    ApiRoute("/v1/files/{id}/content", in_thread(file_content)),
    ApiRoute("/v1/uploads", with_body(UploadRequest, create_upload), methods=["POST"]),
    ApiRoute("/v1/uploads/{id}/parts", add_part, methods=["POST"]),
    ApiRoute("/v1/uploads/{id}/complete", with_body(CompleteUploadRequest, complete_upload), methods=["POST"]),
    ApiRoute("/v1/uploads/{id}/cancel", in_thread(cancel_upload), methods=["POST"]),
    ApiRoute("/v1/fine_tuning/jobs", with_body(JobRequest, create_job), methods=["POST"]),
    ApiRoute("/v1/fine_tuning/jobs", in_thread(list_jobs), query=JobQuery),
    ApiRoute("/v1/fine_tuning/jobs/{id}", in_thread(get_job)),
    ApiRoute("/v1/fine_tuning/jobs/{id}/cancel", in_thread(cancel_job), methods=["POST"]),
    ApiRoute("/v1/fine_tuning/jobs/{id}/pause", in_thread(pause_job), methods=["POST"]),
    ApiRoute("/v1/fine_tuning/jobs/{id}/resume", in_thread(resume_job), methods=["POST"]),
    ApiRoute("/v1/fine_tuning/jobs/{id}/events", in_thread(list_events), query=EventQuery),
    ApiRoute("/v1/fine_tuning/jobs/{id}/checkpoints", in_thread(list_checkpoints), query=CheckpointQuery),
    ApiRoute(PERMISSIONS, with_body(PermissionRequest, create_permissions), methods=["POST"]),
    ApiRoute(PERMISSIONS, in_thread(list_permissions), query=PermissionQuery),
    ApiRoute(f"{PERMISSIONS}/{{permission}}", in_thread(delete_permission), methods=["DELETE"]),
    ApiRoute("/v1/batches", with_body(BatchRequest, create_batch), methods=["POST"]),
    ApiRoute("/v1/batches", in_thread(list_batches), query=PageQuery),
    ApiRoute("/v1/batches/{id}", in_thread(get_batch)),
    ApiRoute("/v1/batches/{id}/cancel", in_thread(cancel_batch), methods=["POST"]),
    ApiRoute("/v1/models", in_thread(list_models)),
    ApiRoute("/v1/models/{id:path}", in_thread(get_model)),
    ApiRoute("/v1/models/{id:path}", in_thread(delete_model), methods=["DELETE"]),
    ApiRoute("/v1/load_lora_adapter", with_body(AdapterRequest, load_adapter), methods=["POST"]),
    *(ApiRoute(path, complete, methods=["POST"]) for path in ENDPOINTS),
    ApiRoute("/tokenize", with_body(TokenizeRequest, tokenize), methods=["POST"]),
    Route(HEALTH, health),
]


def make_app(
    store: Store,
    key: str,
    hosts: frozenset[str] | None = None,
    cors: str | None = None,
    ahead: bool = False,
) -> Starlette:
    """Return the application. Every request must have the header `Authorization: Bearer <key>`.

    With `hosts`, its Host must be one of them, with any port. With `cors`, the pages of that origin may read answers.
    With `ahead`, the generator does what takes long before a request needs it.
    """
    generator = Generator(store, ahead)
    ensure_worker(store)
    app = Starlette(routes=ROUTES, exception_handlers={HTTPException: on_http_error})
    app.router.redirect_slashes = False  # a redirect would name the Host of the request, which clients choose
    app.state.engine = Engine(store, generator, BatchRunner(store, generator))
    app.add_middleware(Guard, key=key, hosts=hosts)
    if cors:
        app.add_middleware(Cors, origin=cors)
    return app


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: an unknown route, a wrong method or a broken form."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code in (404, 405) and (instead := instead_of(method, path, ROUTES)):
        return error_answer(ApiError(404, instead, "not_supported"))
    answer = error_answer(ApiError(error.status_code, f"{method} {path}: {error.detail}"))
    if error.status_code == 405:
        answer.headers["allow"] = ", ".join(allowed_methods(path, ROUTES))
    return answer
