"""What the generator is asked, and what it answers."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from finetune.engine.training.encoding import Message


@dataclass(frozen=True)
class Request:
    """One choice to generate: its sampling settings, and how many alternatives to report per token; with None, the
    tokens are not reported either."""

    model: str
    messages: Sequence[Message]
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...]
    top_logprobs: int | None


@dataclass
class Token:
    text: str
    raw: bytes
    logprob: float
    top: "list[Token]" = field(default_factory=list)


@dataclass
class Answer:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: list[Token]
    seconds: float = field(compare=False)  # from the batch's beginning on


@dataclass
class Row:
    """A request under way: the token IDs so far, and what ends it."""

    request: Request
    future: "Future[Answer]"
    opening: tuple[int, ...]
    rest: list[int]
    limit: int
    random: Any
    waited: int = 0  # batches that went first
    began: float = 0
    made: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    finish_reason: str | None = None
    text: str = ""
