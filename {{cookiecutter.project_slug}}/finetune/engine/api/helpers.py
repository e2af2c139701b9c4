"""Helpers of the endpoints: the state that they share, JSON bodies, form files, query parameters and pages of lists."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from finetune.engine.api.responses import Json
from finetune.engine.api_errors import ApiError
from finetune.engine.batch_runner import BatchRunner
from finetune.engine.inference.generator import Generator
from finetune.engine.request_body import Body, parse_body, parse_json
from finetune.engine.store import Store

Endpoint = Callable[[Request], Awaitable[Response]]
Item = TypeVar("Item", bound=Mapping[str, object])


@dataclass(frozen=True)
class Engine:
    """What the endpoints of one application share."""

    store: Store
    generator: Generator
    batches: BatchRunner

    def close(self) -> None:
        """Stop the threads."""
        self.generator.close()
        self.batches.close()


def engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def store_of(request: Request) -> Store:
    return engine_of(request).store


def in_thread(endpoint: Callable[[Request], Json | Response]) -> Endpoint:
    """Run an endpoint that reads the disk in a thread, beside the event loop. A dictionary becomes a JSON answer."""

    async def call(request: Request) -> Response:
        return as_response(await run_in_threadpool(endpoint, request))

    return call


def with_body(kind: type[Body], endpoint: Callable[[Request, Body], Json | Response]) -> Endpoint:
    """Run an endpoint like `in_thread`, with the request's JSON body as an instance of `kind`."""

    async def call(request: Request) -> Response:
        return as_response(await run_in_threadpool(endpoint, request, await read_body(request, kind)))

    return call


def as_response(answer: Json | Response) -> Response:
    return answer if isinstance(answer, Response) else JSONResponse(answer)


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Return the JSON body of a request. Raises ApiError with status 400 if it is not an instance of `kind`."""
    try:
        body = parse_json(await request.body())
    except ValueError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    return parse_body(kind, body)


def form_file(form: FormData, name: str) -> UploadFile:
    """Return a file of a form. Raises ApiError if it is missing."""
    found = form.get(name)
    if not isinstance(found, UploadFile):
        raise ApiError(400, f"'{name}' is a required property.", "missing_required_parameter", name)
    return found


def query_number(request: Request, name: str, default: int, high: int) -> int:
    """Return an integer from 1 to `high` of the query. Raises ApiError for any other value."""
    value = request.query_params.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", value) or not 1 <= int(value) <= high:
        raise ApiError(400, f"'{name}' must be an integer from 1 to {high}.", "invalid_value", name)
    return int(value)


def page(
    request: Request, rows: Sequence[Item], to_object: Callable[[Item], Json], default_limit: int, max_limit: int
) -> Json:
    """Return OpenAI's list object: the rows that the query's `after` and `limit` choose."""
    limit = query_number(request, "limit", default_limit, max_limit)
    rows = rows_after(rows, request.query_params.get("after"))
    data = [to_object(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(rows) > limit,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def rows_after(rows: Sequence[Item], row_id: str | None) -> Sequence[Item]:
    """Return the rows after the one of this ID; all rows for None. Raises ApiError if no row has the ID."""
    if row_id is None:
        return rows
    for index, row in enumerate(rows):
        if row["id"] == row_id:
            return rows[index + 1 :]
    raise ApiError(400, f"No entry of this list has the ID given as 'after': {row_id}", "invalid_value", "after")
