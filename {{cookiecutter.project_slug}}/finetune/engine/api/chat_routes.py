"""The endpoint of chat completions."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from finetune.engine import bases
from finetune.engine.api.helpers import engine_of, read_body
from finetune.engine.api.model_routes import tuned_model
from finetune.engine.api_errors import model_not_found
from finetune.engine.fingerprint import fingerprint_of
from finetune.engine.inference.chat_completions import completion
from finetune.engine.inference.chat_request import ChatRequest, generation_requests


async def create_chat_completion(request: Request) -> Response:
    engine = engine_of(request)
    chat = await read_body(request, ChatRequest)
    if not tuned_model(engine.store, chat.model) and not bases.known(chat.model, engine.store):
        raise model_not_found(chat.model)
    choices = [asyncio.wrap_future(engine.generator.submit(choice)) for choice in generation_requests(chat)]
    answers = await asyncio.gather(*choices)
    fingerprint = await asyncio.to_thread(fingerprint_of, engine.store, chat.model)
    milliseconds = max(1000 * answer.seconds for answer in answers)
    return JSONResponse(
        completion(chat.model, answers, bool(chat.logprobs), fingerprint),
        headers={"openai-processing-ms": str(round(milliseconds))},
    )
