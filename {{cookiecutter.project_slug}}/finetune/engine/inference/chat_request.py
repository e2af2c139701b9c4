"""The body of a chat completion request: its checks, and the requests to the generator that it becomes."""

import time
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from finetune.engine.inference.generation_types import GenerationRequest
from finetune.engine.request_body import RequestBody

# Keys that change no answer of this server.
IGNORED_KEYS = {"user", "store", "metadata", "service_tier", "safety_identifier"}


def as_array(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ChatMessage(BaseModel):
    """A message of the conversation. Other keys than these are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class ChatRequest(RequestBody):
    """A chat completion request. A key that would change the answer, and that this server does not know, is refused."""

    codes: ClassVar[dict[str, str]] = {"model": "missing_required_parameter"}

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    n: int | None = Field(None, ge=1, le=128)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    prompt_cache_key: str | None = None  # says that other requests begin with the same turns
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    prompt_logprobs: int | None = Field(None, ge=0, le=20)  # this and the next key: as vLLM has them
    add_generation_prompt: bool | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]] | None, BeforeValidator(as_array)] = Field(
        None, max_length=4, description="a text that is not empty, or an array of up to 4 of them"
    )

    @model_validator(mode="before")
    @classmethod
    def leave_out_unused(cls, body: dict[str, Any]) -> dict[str, Any]:
        """Leave out the ignored keys, and the unknown keys that are switched off (`stream: false`)."""
        return {
            key: value
            for key, value in body.items()
            if key in cls.model_fields or (key not in IGNORED_KEYS and value not in (None, False))
        }

    @field_validator("top_logprobs")
    @classmethod
    def needs_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("needs 'logprobs' to be true")
        return value


def generation_requests(chat: ChatRequest) -> list[GenerationRequest]:
    """Return one request to the generator for each of the `n` choices. Without a seed, the clock gives the seed."""
    first_seed = time.time_ns() if chat.seed is None else chat.seed
    return [
        GenerationRequest(
            model=chat.model,
            messages=[{"role": message.role, "content": message.content} for message in chat.messages],
            max_tokens=chat.max_completion_tokens or chat.max_tokens,
            temperature=1 if chat.temperature is None else chat.temperature,
            top_p=1 if chat.top_p is None else chat.top_p,
            seed=(first_seed + index) % 2**63,
            stop=tuple(chat.stop or ()),
            presence_penalty=chat.presence_penalty or 0,
            frequency_penalty=chat.frequency_penalty or 0,
            top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
            shares_turns=bool(chat.prompt_cache_key),
            prompt_logprobs=chat.prompt_logprobs if index == 0 else None,  # the same for each choice
            add_generation_prompt=chat.add_generation_prompt is not False,
        )
        for index in range(chat.n or 1)
    ]
