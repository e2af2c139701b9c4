"""Endpoints of uploads in parts."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from finetune.engine import uploads
from finetune.engine.api.file_routes import find_file
from finetune.engine.api.forms import form_with_file, parse_form
from finetune.engine.api.helpers import store_of
from finetune.engine.api.requests import CompleteUploadRequest, PartForm, UploadRequest, seconds_of
from finetune.engine.api.responses import Json, part_object, upload_object


def create_upload(request: Request, body: UploadRequest) -> Json:
    lifetime = seconds_of(body.expires_after)
    return upload_object(uploads.create(store_of(request), body.filename, body.purpose, body.bytes, lifetime))


async def add_part(request: Request) -> Response:
    store, upload_id = store_of(request), request.path_params["id"]
    await run_in_threadpool(uploads.get_pending, store, upload_id)  # before the part is read
    async with form_with_file(request, "data") as (form, part):
        parse_form(PartForm, form, "data")
        row = await run_in_threadpool(uploads.add_part, store, upload_id, part.file)
    return JSONResponse(part_object(row))


def complete_upload(request: Request, body: CompleteUploadRequest) -> Json:
    store = store_of(request)
    row, file_id = uploads.complete(store, request.path_params["id"], body.part_ids, body.md5)
    return upload_object(row, find_file(store, file_id))


def cancel_upload(request: Request) -> Json:
    return upload_object(uploads.cancel(store_of(request), request.path_params["id"]))
