"""The settings that chat completions and completions have in common."""

import re
import time
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from finetune.engine.inference.generation_types import GenerationRequest
from finetune.engine.request_body import Metadata, RequestBody

MAX_CHOICES = 128


def as_array(value: object) -> object:
    return [value] if isinstance(value, str) else value


def token_ids(value: dict[str, float]) -> dict[str, float]:
    """Raise ValueError for a key that is no token ID."""
    for key in value:
        if not re.fullmatch("0|[1-9][0-9]{0,8}", key):
            raise ValueError("must have token IDs as its keys")
    return value


def not_true(value: bool | None) -> bool | None:
    if value:
        raise ValueError("must be false: this server does not have it")
    return value


Bias = Annotated[float, Field(ge=-100, le=100)]


class StreamOptions(RequestBody):
    """What a stream has besides the answer. Nothing obscures the sizes of its events here."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingSettings(RequestBody):
    """How answers are sampled, ended and sent. Unknown keys are refused, neutral values of unsupported ones pass."""

    codes: ClassVar[dict[str, str]] = {"model": "missing_required_parameter"}

    model: str
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Annotated[dict[str, Bias], AfterValidator(token_ids)] | None = Field(
        None, max_length=1024, description="an object of up to 1,024 numbers from -100 to 100, under IDs of tokens"
    )
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: Annotated[list[Annotated[str, Field(min_length=1)]] | None, BeforeValidator(as_array)] = Field(
        None, max_length=4, description="a text that is not empty, or an array of up to 4 of them"
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # These change no answer of this server.
    user: str | None = None
    metadata: Metadata | None = None

    @field_validator("stream_options")
    @classmethod
    def needs_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value and not info.data.get("stream"):
            raise ValueError("needs 'stream' to be true")
        return value

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def requests(self, prompt: Any, choices: int, **more: Any) -> list[GenerationRequest]:
        """Return a request to the generator for each choice. Without a seed, the clock gives the seed.

        `more` are the other fields of GenerationRequest; only the first choice reports the prompt's tokens.
        """
        first_seed = time.time_ns() if self.seed is None else self.seed
        scores = more.pop("prompt_logprobs", None)
        settings: dict[str, Any] = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.max_tokens,
            "temperature": 1 if self.temperature is None else self.temperature,
            "top_p": 1 if self.top_p is None else self.top_p,
            "stop": tuple(self.stop or ()),
            "presence_penalty": self.presence_penalty or 0,
            "frequency_penalty": self.frequency_penalty or 0,
            "logit_bias": tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
        }
        return [
            GenerationRequest(
                **{**settings, **more},
                seed=(first_seed + index) % 2**63,
                prompt_logprobs=None if index else scores,
            )
            for index in range(choices)
        ]
