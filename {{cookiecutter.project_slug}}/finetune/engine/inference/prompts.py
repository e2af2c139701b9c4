"""Turn requests into token IDs, in a thread beside the one that generates: a long prompt keeps no answer waiting."""

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.chat_template import check_used, render
from finetune.engine.completion_prompt import prompt_ids
from finetune.engine.context_length import context_length_of
from finetune.engine.conversation import InvalidChat
from finetune.engine.fingerprint import Stamp, base_and_adapter, stamp_of
from finetune.engine.inference.answer_grammar import grammar_of
from finetune.engine.inference.constraints import Constraint, Vocabulary, vocabulary_of
from finetune.engine.inference.end_tokens import end_token_ids_of
from finetune.engine.inference.generation_types import AnswerForm, GeneratedAnswer, GenerationRequest, Listener
from finetune.engine.native_tool_format import tool_format_of
from finetune.engine.store import Store
from finetune.engine.tool_format import ToolFormat

DEFAULT_MAX_TOKENS = 1024  # of an answer, where a request does not say it; the rest of a context takes minutes
MAX_TOKENIZERS = 8  # above it, the least recently used one is dropped


@dataclass(eq=False)
class Submitted:
    """A request on its way to the generator; the last fields are set when its prompt is known."""

    request: GenerationRequest
    future: "Future[GeneratedAnswer]"
    listener: Listener | None
    group: object
    interactive: bool
    base: str = ""
    prompt_ids: tuple[int, ...] = ()
    max_new_tokens: int = 0
    reserved: int = 0  # bytes for its keys and values
    constraint: Constraint | None = None
    tool_format: ToolFormat | None = None


class BaseTokenizer:
    """The tokenizer of a base and its sizes, without its weights.

    `longest` is the length in bytes of a token. `bytes_a_token` are those of its keys and values in all layers.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, AutoTokenizer

        config = AutoConfig.from_pretrained(folder).get_text_config()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.context_length = context_length_of(config)
        self.vocabulary_size = int(config.vocab_size)
        self.bytes_a_token = cache_bytes_a_token(config)
        self.longest = max(len(piece.encode()) for piece in self.tokenizer.get_vocab())
        self.end_token_ids = end_token_ids_of(folder, self.tokenizer)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What grammars need of the tokens."""
        return vocabulary_of(self.tokenizer, self.end_token_ids)

    def tool_format_for(self, form: AnswerForm) -> ToolFormat | None:
        """Return how an answer of this form writes calls; None if it may have none."""
        return tool_format_of(self.tokenizer) if form.tools and form.tool_choice != "none" else None

    def constraint_of(self, form: AnswerForm) -> Constraint | None:
        """Return the constraint of an answer; None if any text may be one. Raises ApiError for a wrong form."""
        grammar = grammar_of(
            form.response_format,
            form.tools,
            form.tool_choice,
            form.parallel_tool_calls,
            self.tool_format_for(form),
            self.vocabulary.special_tokens,
        )
        return Constraint(self.vocabulary, grammar) if grammar else None


def cache_bytes_a_token(config: Any) -> int:
    """Return how many bytes the keys and values of one token take in all layers of a base."""
    heads = int(getattr(config, "num_attention_heads", 1))
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    shared = int(getattr(config, "num_key_value_heads", None) or heads)
    number = 4 if bases.best_dtype() == "float32" else 2
    return 2 * int(config.num_hidden_layers) * shared * width * number


class Prompts:
    """The tokenizers in memory. `complete` turns the prompt of a request into token IDs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tokenizers: OrderedDict[tuple[Path, Stamp], BaseTokenizer] = OrderedDict()
        self.last: Submitted | None = None

    def complete(self, one: Submitted) -> None:
        """Set the base and the prompt of a request. Raises ApiError or JobError if it cannot be answered."""
        request = one.request
        one.base = base_and_adapter(self.store, request.model)[0]
        tokenizer = self.tokenizer_of(one.base)
        same = self.last and self.last.request.prompt is request.prompt and self.last.base == one.base
        one.prompt_ids = self.last.prompt_ids if self.last and same else token_ids_of(tokenizer, request)
        if request.answer_form:
            one.constraint = tokenizer.constraint_of(request.answer_form)
            one.tool_format = tokenizer.tool_format_for(request.answer_form)
        self.last = one
        last = tokenizer.vocabulary_size - 1
        if unknown := [token for token, _ in request.logit_bias if token > last]:
            what = f"'logit_bias' has the token {unknown[0]}; the last one of this model is {last}."
            raise ApiError(400, what, "invalid_value", "logit_bias")
        room = tokenizer.context_length - len(one.prompt_ids)
        if room < (1 if request.max_tokens is None else request.max_tokens):
            raise too_long(tokenizer, request, f"{len(one.prompt_ids)}")
        one.max_new_tokens = min(DEFAULT_MAX_TOKENS, room) if request.max_tokens is None else request.max_tokens
        one.reserved = (len(one.prompt_ids) + one.max_new_tokens) * tokenizer.bytes_a_token

    def tokenizer_of(self, base: str) -> BaseTokenizer:
        """Return the tokenizer of a base in memory. It is loaded again if its files have changed."""
        folder = bases.folder_of(base, self.store.home)
        key = folder, stamp_of(folder)
        if key not in self.tokenizers:
            while len(self.tokenizers) >= MAX_TOKENIZERS:
                self.tokenizers.popitem(last=False)
            self.tokenizers[key] = BaseTokenizer(folder)
        self.tokenizers.move_to_end(key)
        return self.tokenizers[key]


def token_ids_of(tokenizer: BaseTokenizer, request: GenerationRequest) -> tuple[int, ...]:
    """Return the token IDs of a prompt.

    Raises ApiError for IDs that the vocabulary lacks, for a prompt that is certainly too long, and for a conversation
    of which the chat template leaves out a part.
    """
    prompt = request.prompt
    if isinstance(prompt, tuple):
        if max(prompt) >= tokenizer.vocabulary_size:
            last = tokenizer.vocabulary_size - 1
            what = f"The prompt has the token {max(prompt)}; the last one of this model is {last}."
            raise ApiError(400, what, "invalid_value", "prompt")
        return prompt
    size = len(prompt.encode()) if isinstance(prompt, str) else sum(len(one["content"].encode()) for one in prompt)
    if size > tokenizer.context_length * tokenizer.longest:  # this is certain without the work
        raise too_long(tokenizer, request, f"over {size // tokenizer.longest}")
    if isinstance(prompt, str):
        return tuple(prompt_ids(tokenizer.tokenizer, prompt))
    try:
        check_used(tokenizer.tokenizer, prompt, request.tools, request.model)
    except InvalidChat as error:
        raise ApiError(400, f"{error}.", "unsupported_value", error.place) from error
    return tuple(render(tokenizer.tokenizer, prompt, request.add_generation_prompt, request.tools or None))


def too_long(tokenizer: BaseTokenizer, request: GenerationRequest, tokens: str) -> ApiError:
    what = (
        f"This model's maximum context length is {tokenizer.context_length} tokens; the prompt has {tokens} and the"
        f" answer may have {1 if request.max_tokens is None else request.max_tokens}."
    )
    return ApiError(400, what, "context_length_exceeded", param_of(request))


def param_of(request: GenerationRequest) -> str:
    return "prompt" if isinstance(request.prompt, str | tuple) else "messages"
