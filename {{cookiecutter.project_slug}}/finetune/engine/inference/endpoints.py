"""What the two endpoints that generate take and return, for single requests and for those of batches."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from finetune.engine.inference.chat_completions import ChatChunks, ChatCompletion, completion
from finetune.engine.inference.chat_request import ChatRequest, generation_requests
from finetune.engine.inference.completion_request import CompletionRequest, completion_requests
from finetune.engine.inference.generation_types import GeneratedAnswer, GenerationRequest
from finetune.engine.inference.sampling_settings import SamplingSettings
from finetune.engine.inference.text_completions import TextChunks, TextCompletion, text_completion

Answers = Sequence[Sequence[GeneratedAnswer]]  # the choices for each prompt
AnyChunks = ChatChunks | TextChunks


class Endpoint(NamedTuple):
    """An endpoint that generates.

    `requests` returns the requests to the generator for each prompt of a body; `whole` the object of all answers, and
    `chunks` that of a stream, both with the fingerprint of what answered.
    """

    body: type[SamplingSettings]
    requests: Callable[[Any], list[list[GenerationRequest]]]
    whole: Callable[[Any, Answers, str | None], ChatCompletion | TextCompletion]
    chunks: Callable[[Any, str | None], AnyChunks]


def chat_requests(body: ChatRequest) -> list[list[GenerationRequest]]:
    return [generation_requests(body)]


def whole_chat(body: ChatRequest, answers: Answers, fingerprint: str | None) -> ChatCompletion:
    return completion(body.model, answers[0], bool(body.logprobs), fingerprint)


def chat_chunks(body: ChatRequest, fingerprint: str | None) -> ChatChunks:
    return ChatChunks(body.model, bool(body.logprobs), body.includes_usage, fingerprint)


def whole_text(body: CompletionRequest, answers: Answers, fingerprint: str | None) -> TextCompletion:
    return text_completion(body.model, answers, body.n or 1, body.logprobs, bool(body.echo), fingerprint)


def text_chunks(body: CompletionRequest, fingerprint: str | None) -> TextChunks:
    return TextChunks(body.model, body.logprobs, body.includes_usage, fingerprint, bool(body.echo))


ENDPOINTS = {
    "/v1/chat/completions": Endpoint(ChatRequest, chat_requests, whole_chat, chat_chunks),
    "/v1/completions": Endpoint(CompletionRequest, completion_requests, whole_text, text_chunks),
}
