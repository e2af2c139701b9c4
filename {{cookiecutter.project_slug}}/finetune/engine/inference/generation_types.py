"""What the generator takes and returns, and the state of a request in between."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune.engine.conversation import Message
from finetune.engine.tool_calls import ToolCall
from finetune.engine.tool_format import ToolFormat

if TYPE_CHECKING:
    from collections.abc import Hashable

    import torch

    from finetune.engine.inference.constraints import Constraint
    from finetune.engine.inference.loaded_model import LoadedModel


@dataclass(frozen=True)
class AnswerForm:
    """What an answer must be, in the words of a chat request: JSON, or calls of tools."""

    response_format: Mapping[str, Any] | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """One choice to generate, with its sampling settings.

    `prompt` is a conversation, a text, or token IDs. `max_tokens` None stands for `prompts.DEFAULT_MAX_TOKENS`, or what
    the context has room for. `top_logprobs` is how many alternatives to report with each token; with None, no tokens
    are reported. `prompt_logprobs` is how many of the likeliest tokens to report at each place of the prompt, beside
    its own token; with None, none are. Without `add_generation_prompt` a conversation ends where its last turn ends.
    `logit_bias` is added to the logits of tokens, by their IDs. With `echo` the answer has the prompt's tokens, too.
    `tools` are those that the prompt of a conversation describes; `answer_form` constrains its answer.
    """

    model: str
    prompt: Sequence[Message] | str | tuple[int, ...]
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...]
    top_logprobs: int | None
    presence_penalty: float = 0
    frequency_penalty: float = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    prompt_logprobs: int | None = None
    add_generation_prompt: bool = True
    echo: bool = False
    tools: Sequence[Mapping[str, Any]] = ()
    answer_form: AnswerForm | None = None


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
    raw: bytes = b""


# At each place of a prompt: its own token first, then the likeliest ones. The first place has none.
PromptTokens = list[list[PromptToken]]


@dataclass
class GeneratedAnswer:
    """A finished choice; `tokens` are those to report, `seconds` count from its start.

    `prompt_text` is the prompt of a completion, with `echo` in the texts and bytes of its tokens. The text is what is
    before the `tool_calls`.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: list[GeneratedToken]
    seconds: float = field(default=0, compare=False)
    prompt: PromptTokens | None = None
    prompt_text: str = ""
    echoed: list[tuple[str, bytes]] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)


@dataclass
class Delta:
    """What a step adds to a streamed answer: text that later tokens do not change, and tokens to report.

    `prompt_text` is the prompt of a completion.
    """

    text: str
    tokens: list[GeneratedToken]
    prompt_text: str = ""


Listener = Callable[[Delta], None]


@dataclass(eq=False)
class RequestState:
    """A request that is being answered. `computed` tokens of its prompt are in its cache, in blocks of `block` tokens.

    `group` is the same for the choices of one request of a client. A request without `interactive` is one of a batch:
    prompts of others are computed first. `number` counts the requests in the order of their start, and `last_pass` is
    the number of the last pass that the request was part of. `reserved` bytes are for its keys and values.
    """

    request: GenerationRequest
    future: "Future[GeneratedAnswer]"
    listener: Listener | None
    group: object
    interactive: bool
    number: int
    loaded: "LoadedModel"
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    reserved: int
    block: int
    block_keys: "list[Hashable]"
    cache: Any
    random: "torch.Generator"
    constraint: "Constraint | None"
    tool_format: ToolFormat | None  # in which the answer may have calls
    started_at: float
    last_pass: int = 0
    computed: int = 0
    generated_ids: list[int] = field(default_factory=list)
    reported_tokens: list[GeneratedToken] = field(default_factory=list)
    prompt_tokens: PromptTokens | None = None
    finish_reason: str | None = None
    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    sent_text: str = ""
    sent_tokens: int = 0

    @property
    def is_chat(self) -> bool:
        return not isinstance(self.request.prompt, str | tuple)

    @property
    def prompt_text(self) -> str:
        """The prompt of a completion as text; that of a chat is none."""
        prompt = self.request.prompt
        if isinstance(prompt, tuple):
            return str(self.loaded.tokenizer.decode(prompt))
        return prompt if isinstance(prompt, str) else ""

    @property
    def prompt_done(self) -> bool:
        return self.computed == len(self.prompt_ids)
