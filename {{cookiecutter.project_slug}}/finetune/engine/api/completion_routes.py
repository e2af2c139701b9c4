"""The endpoints of chat completions and completions: whole answers, and streams of server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from finetune.engine import bases
from finetune.engine.api.helpers import Engine, engine_of, read_body
from finetune.engine.api.model_routes import tuned_model
from finetune.engine.api_errors import ApiError, as_refusal, model_not_found
from finetune.engine.fingerprint import fingerprint_of
from finetune.engine.inference.chunks import Json
from finetune.engine.inference.endpoints import ENDPOINTS, AnyChunks
from finetune.engine.inference.generation_types import Delta, GeneratedAnswer, GenerationRequest
from finetune.engine.inference.sampling_settings import SamplingSettings

Futures = Sequence["Future[GeneratedAnswer]"]


async def complete(request: Request) -> Response:
    """Answer a request to one of ENDPOINTS."""
    engine, endpoint = engine_of(request), ENDPOINTS[request.url.path]
    body = await read_body(request, endpoint.body)
    await run_in_threadpool(check_model, engine, body)
    prompts = endpoint.requests(body)
    if body.stream:
        return await streamed(request, prompts, endpoint.chunks(body, await fingerprint(engine, body)))
    answers = await answers_to(request, prompts)
    answer = endpoint.whole(body, answers, await fingerprint(engine, body))
    milliseconds = round(1000 * max(one.seconds for choices in answers for one in choices))
    return JSONResponse(answer, headers={"openai-processing-ms": str(milliseconds)})


def check_model(engine: Engine, body: SamplingSettings) -> None:
    """Raise ApiError if there is no such model."""
    if not tuned_model(engine.store, body.model) and not bases.known(body.model, engine.store):
        raise model_not_found(body.model)


async def fingerprint(engine: Engine, body: SamplingSettings) -> str:
    return await asyncio.to_thread(fingerprint_of, engine.store, body.model)


async def answers_to(request: Request, prompts: Sequence[Sequence[GenerationRequest]]) -> list[list[GeneratedAnswer]]:
    """Return the answers to the choices of each prompt. They are no longer computed when the client has gone."""
    generator, group = engine_of(request).generator, object()
    futures = [[generator.submit(one, group=group) for one in choices] for choices in prompts]
    async with cancelled_without_client(request, [future for choices in futures for future in choices]) as flat:
        await asyncio.gather(*map(asyncio.wrap_future, flat))
    return [[future.result() for future in choices] for choices in futures]


@asynccontextmanager
async def cancelled_without_client(request: Request, futures: Futures) -> AsyncIterator[Futures]:
    """Cancel futures if the client disconnects while the block runs, and if the block raises anything."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()
        cancel(futures)

    gone = asyncio.Event()
    watching = asyncio.create_task(watch())
    try:
        yield futures
    except BaseException as error:
        cancel(futures)
        if gone.is_set():
            raise ApiError(499, "The client has closed the connection.", "client_closed_request") from error
        raise
    finally:
        watching.cancel()


def cancel(futures: Futures) -> None:
    for future in futures:
        future.cancel()


class Event(NamedTuple):
    """A piece of a choice of a stream, or its end."""

    choice: int
    delta: Delta | None


async def streamed(request: Request, prompts: Sequence[Sequence[GenerationRequest]], chunks: AnyChunks) -> Response:
    """Return the answer as a stream of server-sent events. What is refused before its first event is no stream."""
    generator, group, loop = engine_of(request).generator, object(), asyncio.get_running_loop()
    events: asyncio.Queue[Event] = asyncio.Queue()

    def put(choice: int, delta: Delta | None) -> None:
        with suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(events.put_nowait, Event(choice, delta))

    def put_end(choice: int, _: object) -> None:
        put(choice, None)

    futures = []
    for index, one in enumerate(one for choices in prompts for one in choices):
        future = generator.submit(one, listener=partial(put, index), group=group)
        future.add_done_callback(partial(put_end, index))
        futures.append(future)
    async with cancelled_without_client(request, futures):
        first = await events.get()
        if first.delta is None:  # refused
            futures[first.choice].result()
    lines = event_stream(first, events, futures, chunks, [len(choices) for choices in prompts])
    return StreamingResponse(lines, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def event_stream(
    first: Event,
    events: "asyncio.Queue[Event]",
    futures: Futures,
    chunks: AnyChunks,
    choices: Sequence[int],
) -> AsyncIterator[bytes]:
    """Yield the events of a stream. If its client goes away, its answers are no longer computed."""
    begun: set[int] = set()
    event: Event | None = first
    open_choices = len(futures)
    try:
        while event:
            begins = event.choice not in begun
            begun.add(event.choice)
            if begins and (beginning := chunks.first(event.choice)):
                yield sse(beginning)
            if event.delta is not None:
                if begins or event.delta.text or event.delta.tokens:
                    yield sse(chunks.piece(event.choice, event.delta))
            else:
                for chunk in chunks.last(event.choice, futures[event.choice].result()):
                    yield sse(chunk)
                open_choices -= 1
            event = await events.get() if open_choices else None
        if chunks.includes_usage:
            answers = [future.result() for future in futures]
            firsts = [answers[sum(choices[:number])] for number in range(len(choices))]
            yield sse(chunks.usage(firsts, answers))
        yield b"data: [DONE]\n\n"
    except Exception as error:
        yield sse(dict(as_refusal(error).envelope()))
    finally:
        cancel(futures)


def sse(chunk: Json) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"
