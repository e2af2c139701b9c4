"""The body of a completion request, `POST /v1/completions`: its checks, and the requests that it becomes."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.generation_types import GenerationRequest
from finetune.engine.inference.sampling_settings import MAX_CHOICES, SamplingSettings

MAX_PROMPTS = 2048  # of one request, as at OpenAI
DEFAULT_MAX_TOKENS = 16  # OpenAI's

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(SamplingSettings):
    """`POST /v1/completions`. The prompt is a text, a list of texts, token IDs, or a list of these."""

    prompt: (
        str | Annotated[list[str], Field(min_length=1)] | TokenIds | Annotated[list[TokenIds], Field(min_length=1)]
    ) = Field(description="a text, an array of texts, an array of token IDs, or an array of arrays of token IDs")
    max_tokens: int | None = Field(None, ge=0, le=1_000_000)
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1, le=20)
    suffix: Literal[""] | None = Field(None, description="null: this server does not insert text before a suffix")

    @field_validator("best_of")
    @classmethod
    def at_least_n(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < (info.data.get("n") or 1):
            raise ValueError("must be at least 'n'")
        if value is not None and value > (info.data.get("n") or 1) and info.data.get("stream"):
            raise ValueError("above 'n' cannot be streamed")
        return value

    @model_validator(mode="after")
    def not_too_many(self) -> "CompletionRequest":
        if len(self.prompts()) > MAX_PROMPTS:
            raise ApiError(
                400, f"'prompt' may be an array of at most {MAX_PROMPTS} prompts.", "invalid_value", "prompt"
            )
        if self.echo and self.logprobs is not None and self.stream:
            raise ApiError(400, "'echo' with 'logprobs' cannot be streamed.", "unsupported_value", "stream")
        return self

    def prompts(self) -> list[str | tuple[int, ...]]:
        """Return the prompts, each a text or token IDs."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        texts = [one for one in prompt if isinstance(one, str)]
        lists = [tuple(one) for one in prompt if isinstance(one, list)]
        return [*texts, *lists] or [tuple(one for one in prompt if isinstance(one, int))]

    @property
    def candidates(self) -> int:
        """The number of answers that are generated for each prompt; the best `n` of them are returned."""
        return self.best_of or self.n or 1


def completion_requests(body: CompletionRequest) -> list[list[GenerationRequest]]:
    """Return the requests to the generator for each prompt.

    Tokens are reported to choose the best candidates, too: by the mean log-probability of their tokens.
    """
    chooses = body.candidates > (body.n or 1)
    return [
        body.requests(
            prompt,
            min(body.candidates, MAX_CHOICES),
            max_tokens=DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens,
            top_logprobs=body.logprobs if body.logprobs is not None else 0 if chooses else None,
            prompt_logprobs=body.logprobs if body.echo else None,
            echo=bool(body.echo),
        )
        for prompt in body.prompts()
    ]
