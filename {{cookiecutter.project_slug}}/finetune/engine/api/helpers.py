"""Helpers of the endpoints: the state that they share, and JSON bodies."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from finetune.engine.api.queries import Query, parse_query
from finetune.engine.api.responses import Json
from finetune.engine.api_errors import ApiError
from finetune.engine.batch_runner import BatchRunner
from finetune.engine.inference.generator import Generator
from finetune.engine.request_body import Body, parse_body, parse_json
from finetune.engine.store import Store

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Engine:
    """What the endpoints of one application share."""

    store: Store
    generator: Generator
    batches: BatchRunner

    def close(self) -> None:
        """Stop the threads and close the database."""
        self.generator.close()
        self.batches.close()
        self.store.close()


class ApiRoute(Route):
    """A route whose query is checked before its endpoint is called, which finds it as `request.state.query`."""

    def __init__(
        self, path: str, endpoint: Endpoint, *, methods: Sequence[str] = ("GET",), query: type[Query] = Query
    ) -> None:
        async def call(request: Request) -> Response:
            request.state.query = parse_query(query, request)
            return await endpoint(request)

        super().__init__(path, call, methods=list(methods))
        self.query = query


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
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(400, f"Invalid Content-Type header ({content_type}), expected application/json.")
    try:
        body = parse_json(await request.body())
    except ValueError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    deployment = request.scope.get("deployment")
    if deployment is not None and body.get("model") is None:
        body["model"] = deployment  # as Azure's clients send it
    if deployment is not None and body["model"] != deployment:
        what = f"The address names the deployment {deployment!r}, and the body another model. Name the same in both."
        raise ApiError(400, what, "invalid_value", "model")
    return parse_body(kind, body)
