"""Endpoints of batches. Each of them wakes the thread that answers batches."""

from starlette.requests import Request

from finetune.engine import batch_queue
from finetune.engine.api.helpers import engine_of, store_of
from finetune.engine.api.lists import page
from finetune.engine.api.requests import BatchRequest, seconds_of
from finetune.engine.api.responses import Json, batch_object


def create_batch(request: Request, body: BatchRequest) -> Json:
    lifetime = seconds_of(body.output_expires_after)
    row = batch_queue.create(store_of(request), body.input_file_id, body.metadata, body.endpoint, lifetime)
    engine_of(request).batches.wake()
    return batch_object(row)


def list_batches(request: Request) -> Json:
    engine_of(request).batches.wake()
    return page(request, "SELECT * FROM batches", [], batch_object)


def get_batch(request: Request) -> Json:
    engine_of(request).batches.wake()
    return batch_object(batch_queue.get(store_of(request), request.path_params["id"]))


def cancel_batch(request: Request) -> Json:
    row = batch_queue.cancel(store_of(request), request.path_params["id"])
    engine_of(request).batches.wake()
    return batch_object(row)
