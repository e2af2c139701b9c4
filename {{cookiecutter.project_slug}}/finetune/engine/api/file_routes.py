"""Endpoints of files."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from finetune.engine import uploads
from finetune.engine.api.helpers import form_file, page, store_of
from finetune.engine.api.requests import FileForm
from finetune.engine.api.responses import Json, deleted_object, file_object
from finetune.engine.api_errors import ApiError, damaged
from finetune.engine.request_body import parse_body
from finetune.engine.schema import FileRow
from finetune.engine.store import Store


async def create_file(request: Request) -> Response:
    store = store_of(request)
    async with request.form() as form:
        file = form_file(form, "file")
        purpose = parse_body(FileForm, {"purpose": form.get("purpose")}).purpose
        file_id = await run_in_threadpool(uploads.add_file, store, file.filename or "file", purpose, file.file)
    return JSONResponse(file_object(find_file(store, file_id)))


def list_files(request: Request) -> Json:
    order = "ASC" if request.query_params.get("order") == "asc" else "DESC"
    rows: list[FileRow] = store_of(request).rows(f"SELECT * FROM files ORDER BY n {order}")
    purpose = request.query_params.get("purpose")
    chosen = [row for row in rows if purpose in (None, row["purpose"])]
    return page(request, chosen, file_object, 10_000, 10_000)


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
    return FileResponse(store.file_path(row["id"]), media_type="application/octet-stream")


def find_file(store: Store, file_id: str) -> FileRow:
    """Return a file. Raises ApiError if there is none of this ID."""
    row = store.file(file_id)
    if row is None:
        raise ApiError(404, f"No such File object: {file_id}", None, "id")
    return row
