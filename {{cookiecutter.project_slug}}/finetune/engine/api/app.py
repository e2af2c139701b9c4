"""The HTTP face of the engine: OpenAI's routes and objects over the store, with a bearer key."""

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from finetune.engine import bases, batch_queue, job_queue, uploads
from finetune.engine.api.responses import (
    batch_object,
    checkpoint_object,
    event_object,
    file_object,
    job_object,
    model_object,
    page,
    part_object,
    upload_object,
)
from finetune.engine.api_errors import ApiError
from finetune.engine.inference import generator
from finetune.engine.inference.chat_completions import check_chat, choices_of, completion
from finetune.engine.store import Row, Store, new_id
from finetune.engine.training import publishing


def make_app(store: Store, key: str) -> Starlette:
    """The application; every route under /v1 wants `Authorization: Bearer <key>`."""
    api = Api(store)
    routes = [
        Route("/v1/files", api.create_file, methods=["POST"]),
        Route("/v1/files", threaded(api.list_files)),
        Route("/v1/files/{id}", threaded(api.get_file)),
        Route("/v1/files/{id}", threaded(api.delete_file), methods=["DELETE"]),
        Route("/v1/files/{id}/content", threaded(api.file_content)),
        Route("/v1/uploads", api.create_upload, methods=["POST"]),
        Route("/v1/uploads/{id}/parts", api.add_part, methods=["POST"]),
        Route("/v1/uploads/{id}/complete", api.complete_upload, methods=["POST"]),
        Route("/v1/uploads/{id}/cancel", threaded(api.cancel_upload), methods=["POST"]),
        Route("/v1/fine_tuning/jobs", api.create_job, methods=["POST"]),
        Route("/v1/fine_tuning/jobs", threaded(api.list_jobs)),
        Route("/v1/fine_tuning/jobs/{id}", threaded(api.get_job)),
        Route("/v1/fine_tuning/jobs/{id}/cancel", threaded(api.cancel_job), methods=["POST"]),
        Route("/v1/fine_tuning/jobs/{id}/pause", threaded(api.pause_job), methods=["POST"]),
        Route("/v1/fine_tuning/jobs/{id}/resume", threaded(api.resume_job), methods=["POST"]),
        Route("/v1/fine_tuning/jobs/{id}/events", threaded(api.list_events)),
        Route("/v1/fine_tuning/jobs/{id}/checkpoints", threaded(api.list_checkpoints)),
        Route("/v1/batches", api.create_batch, methods=["POST"]),
        Route("/v1/batches", threaded(api.list_batches)),
        Route("/v1/batches/{id}", threaded(api.get_batch)),
        Route("/v1/batches/{id}/cancel", threaded(api.cancel_batch), methods=["POST"]),
        Route("/v1/models", threaded(api.list_models)),
        Route("/v1/models/{id:path}", threaded(api.get_model)),
        Route("/v1/models/{id:path}", threaded(api.delete_model), methods=["DELETE"]),
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/tokenize", api.tokenize, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {ApiError: on_api_error, HTTPException: on_http_error, Exception: on_crash}
    app = Starlette(routes=routes, exception_handlers=handlers)
    expected = f"Bearer {key}".encode()

    async def check_key(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            error = ApiError(401, "Incorrect API key provided: give the key of this server.", "invalid_api_key")
            return JSONResponse(error.envelope(), error.status)
        response = await call_next(request)
        response.headers["x-request-id"] = new_id("req_")
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=check_key)
    app.state.take_up = api.batches.advance
    app.state.close = api.close
    return app


async def on_api_error(request: Request, error: ApiError) -> Response:
    return JSONResponse(error.envelope(), error.status)


async def on_http_error(request: Request, error: HTTPException) -> Response:
    what = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(ApiError(error.status_code, what).envelope(), error.status_code)


async def on_crash(request: Request, error: Exception) -> Response:
    return JSONResponse(ApiError(500, f"{type(error).__name__}: {error}", "server_error").envelope(), 500)


def threaded(endpoint: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that touches the disk, run beside the event loop; a dictionary becomes JSON."""

    async def call(request: Request) -> Response:
        result = await run_in_threadpool(endpoint, request)
        return result if isinstance(result, Response) else JSONResponse(result)

    return call


def number(request: Request, name: str, default: int, high: int) -> int:
    value = request.query_params.get(name, str(default))
    if not value.isdecimal() or not 1 <= int(value) <= high:
        raise ApiError(400, f"'{name}' must be an integer from 1 to {high}.", "invalid_value", name)
    return int(value)


async def json_body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    return body


def file_in(form: FormData, name: str) -> UploadFile:
    found = form.get(name)
    if not isinstance(found, UploadFile):
        raise ApiError(400, f"'{name}' is a required property.", "missing_required_parameter", name)
    return found


class Api:
    """The endpoints, in the order of the routes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.generator = generator.Generator(store)
        self.batches = batch_queue.Batches(store, self.generator)
        job_queue.advance(store)

    def close(self) -> None:
        self.generator.close()
        self.batches.close()

    # Files

    async def create_file(self, request: Request) -> Response:
        async with request.form() as form:
            file = file_in(form, "file")
            name = file.filename or "file"
            file_id = await run_in_threadpool(uploads.add_file, self.store, name, form.get("purpose"), file.file)
        return JSONResponse(file_object(self._file(file_id)))

    def list_files(self, request: Request) -> Any:
        limit = number(request, "limit", 10_000, 10_000)
        order = "ASC" if request.query_params.get("order") == "asc" else "DESC"
        rows = self.store.rows(f"SELECT * FROM files ORDER BY n {order}")
        purpose = request.query_params.get("purpose")
        rows = [row for row in rows if purpose in (None, row["purpose"])]
        return page([file_object(row) for row in after(request, rows)[: limit + 1]], limit)

    def get_file(self, request: Request) -> Any:
        return file_object(self._file(request.path_params["id"]))

    def delete_file(self, request: Request) -> Any:
        row = self._file(request.path_params["id"])
        self.store.delete_file(row["id"])
        return {"id": row["id"], "object": "file", "deleted": True}

    def file_content(self, request: Request) -> Any:
        row = self._file(request.path_params["id"])
        return FileResponse(self.store.file_path(row["id"]), media_type="application/octet-stream")

    def _file(self, file_id: str) -> Row:
        row = self.store.row("SELECT * FROM files WHERE id = ?", file_id)
        if row is None:
            raise ApiError(404, f"No such File object: {file_id}", None, "id")
        return row

    # Uploads

    async def create_upload(self, request: Request) -> Response:
        row = await run_in_threadpool(uploads.create, self.store, await json_body(request))
        return JSONResponse(upload_object(row))

    async def add_part(self, request: Request) -> Response:
        async with request.form() as form:
            part = file_in(form, "data")
            row = await run_in_threadpool(uploads.add_part, self.store, request.path_params["id"], part.file)
        return JSONResponse(part_object(row))

    async def complete_upload(self, request: Request) -> Response:
        body = await json_body(request)
        row, file_id = await run_in_threadpool(uploads.complete, self.store, request.path_params["id"], body)
        return JSONResponse(upload_object(row, self._file(file_id)))

    def cancel_upload(self, request: Request) -> Any:
        return upload_object(uploads.cancel(self.store, request.path_params["id"]))

    # Jobs

    async def create_job(self, request: Request) -> Response:
        row = await run_in_threadpool(job_queue.create, self.store, await json_body(request))
        return JSONResponse(job_object(row))

    def list_jobs(self, request: Request) -> Any:
        job_queue.advance(self.store)
        wanted = {
            match[1]: value
            for name, value in request.query_params.items()
            if (match := re.fullmatch(r"metadata\[(.*)\]", name))
        }
        rows = self.store.rows("SELECT * FROM jobs ORDER BY n DESC")
        rows = [row for row in rows if wanted.items() <= json.loads(row["metadata"] or "{}").items()]
        if request.query_params.get("metadata") == "null":
            rows = [row for row in rows if row["metadata"] is None]
        limit = number(request, "limit", 20, 100)
        return page([job_object(row) for row in after(request, rows)[: limit + 1]], limit)

    def get_job(self, request: Request) -> Any:
        job_queue.advance(self.store)
        return job_object(self._job(request))

    def cancel_job(self, request: Request) -> Any:
        job_queue.cancel(self.store, self._job(request)["id"])
        return job_object(self._job(request))

    def pause_job(self, request: Request) -> Any:
        job_queue.pause(self.store, self._job(request)["id"])
        return job_object(self._job(request))

    def resume_job(self, request: Request) -> Any:
        job_queue.resume(self.store, self._job(request)["id"])
        return job_object(self._job(request))

    def list_events(self, request: Request) -> Any:
        job_queue.advance(self.store)
        return self._children(request, "events", event_object, 20)

    def list_checkpoints(self, request: Request) -> Any:
        return self._children(request, "checkpoints", checkpoint_object, 10)

    def _children(self, request: Request, table: str, to_object: Callable[[Row], Any], limit: int) -> Any:
        job = self._job(request)
        rows = self.store.rows(f"SELECT * FROM {table} WHERE job = ? ORDER BY n DESC", job["id"])
        limit = number(request, "limit", limit, 1000)
        return page([to_object(row) for row in after(request, rows)[: limit + 1]], limit)

    def _job(self, request: Request) -> Row:
        row = self.store.job(request.path_params["id"])
        if row is None:
            raise ApiError(404, f"Could not find fine tune: {request.path_params['id']}", "fine_tune_not_found", "id")
        return row

    # Batches

    async def create_batch(self, request: Request) -> Response:
        row = await run_in_threadpool(batch_queue.create, self.store, await json_body(request))
        self.batches.advance()
        return JSONResponse(batch_object(row))

    def list_batches(self, request: Request) -> Any:
        self.batches.advance()
        limit = number(request, "limit", 20, 100)
        rows = self.store.rows("SELECT * FROM batches ORDER BY n DESC")
        return page([batch_object(row) for row in after(request, rows)[: limit + 1]], limit)

    def get_batch(self, request: Request) -> Any:
        self.batches.advance()
        return batch_object(batch_queue.get(self.store, request.path_params["id"]))

    def cancel_batch(self, request: Request) -> Any:
        row = batch_queue.cancel(self.store, request.path_params["id"])
        self.batches.advance()
        return batch_object(row)

    # Models

    def list_models(self, request: Request) -> Any:
        tuned = self.store.rows("SELECT * FROM models ORDER BY n")
        data = [model_object(name, 0, "base") for name in bases.installed(self.store.home)]
        return {"object": "list", "data": data + [model_object(m["id"], m["created_at"], "local") for m in tuned]}

    def get_model(self, request: Request) -> Any:
        name = request.path_params["id"]
        row = self.store.row("SELECT * FROM models WHERE id = ?", name)
        if row:
            return model_object(name, row["created_at"], "local")
        if name in bases.installed(self.store.home):
            return model_object(name, 0, "base")
        raise no_model(name)

    def delete_model(self, request: Request) -> Any:
        name = request.path_params["id"]
        if publishing.delete_model(self.store, name):
            return {"id": name, "object": "model", "deleted": True}
        if bases.known(name, self.store.home):
            raise ApiError(403, f"{name} is a base model; only fine-tuned models can be deleted.", None, "model")
        raise no_model(name)

    # Chat

    async def chat(self, request: Request) -> Response:
        body = await json_body(request)
        check_chat(body)
        model = body["model"]
        if not self.store.row("SELECT id FROM models WHERE id = ?", model) and not bases.known(model, self.store.home):
            raise no_model(model)
        futures = [asyncio.wrap_future(self.generator.submit(choice)) for choice in choices_of(body)]
        answers = await asyncio.gather(*futures)
        milliseconds = max(1000 * answer.seconds for answer in answers)
        return JSONResponse(
            completion(model, answers, bool(body.get("logprobs"))),
            headers={"openai-processing-ms": str(round(milliseconds))},
        )

    async def tokenize(self, request: Request) -> Response:
        """The token IDs of a text by a model's own tokenizer, in vLLM's shape: OpenAI's API has no such call."""
        body = await json_body(request)
        model, text = body.get("model"), body.get("prompt")
        if not isinstance(model, str) or not isinstance(text, str):
            raise ApiError(400, "'model' and 'prompt' must be texts.", "invalid_value", "prompt")
        row = self.store.row("SELECT base FROM models WHERE id = ?", model)
        base = row["base"] if row else model
        if not bases.known(base, self.store.home):
            raise no_model(model)
        ids = await run_in_threadpool(lambda: bases.tokenizer_of(base, self.store.home).encode(text).ids)
        return JSONResponse({"tokens": ids, "count": len(ids)})


def after(request: Request, rows: list[Row]) -> list[Row]:
    """The rows that follow the one named by the query's `after`."""
    name = request.query_params.get("after")
    if name is None:
        return rows
    for index, row in enumerate(rows):
        if row["id"] == name:
            return rows[index + 1 :]
    raise ApiError(400, f"'after' names nothing in this list: {name}", "invalid_value", "after")


def no_model(name: str) -> ApiError:
    return ApiError(
        404, f"The model `{name}` does not exist or you do not have access to it.", "model_not_found", "model"
    )
