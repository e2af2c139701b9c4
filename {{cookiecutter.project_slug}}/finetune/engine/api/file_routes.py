"""Endpoints of files."""

import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from finetune.engine import uploads
from finetune.engine.api.forms import form_with_file, parse_form
from finetune.engine.api.helpers import store_of
from finetune.engine.api.lists import Condition, page
from finetune.engine.api.queries import FileQuery
from finetune.engine.api.requests import FileForm, seconds_of
from finetune.engine.api.responses import Json, deleted_object, file_object
from finetune.engine.api_errors import ApiError, damaged
from finetune.engine.schema import FileRow
from finetune.engine.store import Store


async def create_file(request: Request) -> Response:
    store = store_of(request)
    async with form_with_file(request, "file") as (form, file):
        asked = parse_form(FileForm, form, "file")
        lifetime = seconds_of(asked.expires_after)
        file_id = await run_in_threadpool(uploads.add_file, store, asked.file, asked.purpose, file.file, lifetime)
    return JSONResponse(file_object(find_file(store, file_id)))


def list_files(request: Request) -> Json:
    store_of(request).delete_expired_files()
    query: FileQuery = request.state.query
    conditions: list[Condition] = [("(expires_at IS NULL OR expires_at > ?)", [time.time()])]
    if query.purpose is not None:
        conditions.append(("purpose = ?", [query.purpose]))
    return page(request, "SELECT * FROM files", conditions, file_object, "files", query.order == "asc")


def get_file(request: Request) -> Json:
    return file_object(find_file(store_of(request), request.path_params["id"]))


def delete_file(request: Request) -> Json:
    store = store_of(request)
    row = find_file(store, request.path_params["id"])
    store.delete_file(row["id"])
    return deleted_object("file", row["id"])


def file_content(request: Request) -> Response:
    store = store_of(request)
    row = find_file(store, request.path_params["id"])
    if store.is_damaged(store.file_path(row["id"])):
        raise damaged(f"the file {row['id']} ({row['filename']})", "id")
    return FileContent(store.file_path(row["id"]), media_type="application/octet-stream")


class FileContent(FileResponse):
    """The content of a file. Another request may delete the file just before it is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (RuntimeError, FileNotFoundError) as error:
            path = Path(self.path)
            if path.exists():
                raise
            raise no_file(path.name) from error


def find_file(store: Store, file_id: str) -> FileRow:
    """Return a file. Raises ApiError if there is none of this ID."""
    row = store.file(file_id)
    if row is None:
        raise no_file(file_id)
    return row


def no_file(file_id: str) -> ApiError:
    return ApiError(404, f"No such File object: {file_id}", None, "id")
