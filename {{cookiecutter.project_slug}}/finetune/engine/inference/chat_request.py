"""The body of a chat completion request: its checks, and the requests to the generator that it becomes."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from finetune.engine.api_errors import ApiError
from finetune.engine.chat_messages import MAX_TOOLS, ChatMessage, Tool, tools_of
from finetune.engine.conversation import InvalidChat, conversation
from finetune.engine.inference.generation_types import AnswerForm, GenerationRequest
from finetune.engine.inference.sampling_settings import SamplingSettings


class ChatRequest(SamplingSettings):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
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
    modalities: list[Literal["text"]] | None = Field(None, description='["text"]')
    audio: None = None
    function_call: Literal["none", "auto"] | None = None
    functions: list[Any] | None = Field(None, max_length=0)
    moderation: None = None
    prediction: None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    web_search_options: None = None

    @field_validator("max_completion_tokens")
    @classmethod
    def same_as_max_tokens(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_tokens") not in (None, value):
            raise ValueError("must not differ from 'max_tokens', its former name")
        return value

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
    """Return one request to the generator for each of the `n` choices. Raises ApiError for messages that do not fit."""
    continues = chat.add_generation_prompt is False
    try:
        messages = conversation(chat.messages, ends_open=continues)
    except InvalidChat as error:
        raise ApiError(400, f"{error}.", "invalid_value", error.place) from error
    form = None
    if chat.response_format is not None or chat.tools or chat.tool_choice not in (None, "none", "auto"):
        tools = [tool.model_dump(exclude_none=True) for tool in chat.tools or ()]
        form = AnswerForm(chat.response_format, tools, chat.tool_choice, chat.parallel_tool_calls)
    return chat.requests(
        messages,
        chat.n or 1,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        prompt_logprobs=chat.prompt_logprobs,
        add_generation_prompt=not continues,
        tools=tools_of([tool.function for tool in chat.tools or ()]),
        answer_form=form,
    )
