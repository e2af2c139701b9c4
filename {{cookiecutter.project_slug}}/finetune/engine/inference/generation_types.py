"""What the generator takes and returns, and the state of a request in between."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finetune.engine.chat_template import Message

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GenerationRequest:
    """One choice to generate, with its sampling settings.

    `max_tokens` None is what the context has room for. `top_logprobs` is how many alternatives to report with each
    token; with None, no tokens are reported. `shares_turns` says that other requests have the same turns before the
    last one. `prompt_logprobs` is how many of the likeliest tokens to report at each place of the prompt, beside its
    own token; with None, none are. Without `add_generation_prompt` the prompt ends where the last turn ends.
    """

    model: str
    messages: Sequence[Message]
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...]
    top_logprobs: int | None
    presence_penalty: float = 0
    frequency_penalty: float = 0
    shares_turns: bool = False
    prompt_logprobs: int | None = None
    add_generation_prompt: bool = True


@dataclass
class GeneratedToken:
    """A token with its log probability; `raw` are its bytes, `top` the likeliest tokens at its place."""

    text: str
    raw: bytes
    logprob: float
    top: "list[GeneratedToken]" = field(default_factory=list)


@dataclass
class PromptToken:
    """A token at a place of the prompt; `rank` 1 is the likeliest there."""

    token_id: int
    text: str
    logprob: float
    rank: int


# At each place of a prompt: its own token first, then the likeliest ones. The first place has none.
PromptTokens = list[list[PromptToken]]


@dataclass
class GeneratedAnswer:
    """A finished choice; `tokens` are those to report, `seconds` count from the start of its batch."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: list[GeneratedToken]
    seconds: float = field(compare=False)
    prompt: PromptTokens | None = None


@dataclass
class RequestState:
    """A request that waits or is being answered.

    Its prompt is `prefix_ids` (what other requests begin with too, computed once for all of them) and `suffix_ids`.
    """

    request: GenerationRequest
    future: "Future[GeneratedAnswer]"
    prefix_ids: tuple[int, ...]
    suffix_ids: list[int]
    max_new_tokens: int
    random: "torch.Generator"
    batches_waited: int = 0  # batches that went first
    started_at: float = 0
    generated_ids: list[int] = field(default_factory=list)
    reported_tokens: list[GeneratedToken] = field(default_factory=list)
    prompt_tokens: PromptTokens | None = None
    finish_reason: str | None = None
    text: str = ""

    @property
    def prompt_length(self) -> int:
        return len(self.prefix_ids) + len(self.suffix_ids)
