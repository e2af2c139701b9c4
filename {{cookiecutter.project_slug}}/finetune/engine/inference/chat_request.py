"""The body of a chat completion request: its checks, and the requests to the generator that it becomes."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from finetune.engine.inference.generation_types import GenerationRequest
from finetune.engine.inference.sampling_settings import SamplingSettings
from finetune.engine.request_body import RequestBody


class ChatMessage(BaseModel):
    """A message of the conversation. Other keys than these are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class TextFormat(RequestBody):
    """The format of an answer that is free text."""

    type: Literal["text"]


class ChatRequest(SamplingSettings):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: TextFormat | None = None
    # vLLM's keys, for the log-probabilities of a given answer.
    prompt_logprobs: int | None = Field(None, ge=0, le=20)
    add_generation_prompt: bool | None = None
    # These change no answer of this server.
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    # Values that clients send although they use nothing of it.
    tools: list[Any] | None = Field(None, max_length=0)
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = Field(None, description='["text"]')
    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    prediction: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None

    @field_validator("top_logprobs")
    @classmethod
    def needs_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("needs 'logprobs' to be true")
        return value

    @field_validator("prompt_logprobs")
    @classmethod
    def needs_no_stream(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("stream"):
            raise ValueError("cannot be streamed")
        return value


def generation_requests(chat: ChatRequest) -> list[GenerationRequest]:
    """Return one request to the generator for each of the `n` choices."""
    return chat.requests(
        [{"role": message.role, "content": message.content} for message in chat.messages],
        chat.n or 1,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        prompt_logprobs=chat.prompt_logprobs,
        add_generation_prompt=chat.add_generation_prompt is not False,
    )
