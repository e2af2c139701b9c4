"""Turn requests into token IDs, in a thread beside the one that generates: a long prompt keeps no answer waiting."""

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.chat_template import render
from finetune.engine.fingerprint import Stamp, base_and_adapter, stamp_of
from finetune.engine.inference.generation_types import GeneratedAnswer, GenerationRequest, Listener
from finetune.engine.store import Store

DEFAULT_MAX_TOKENS = 1024  # of an answer, where a request does not say it; the rest of a context takes minutes
UNLIMITED_CONTEXT = 2048  # tokens, for a base that names no length
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

    @property
    def reserved_tokens(self) -> int:
        return len(self.prompt_ids) + self.max_new_tokens


class BaseTokenizer:
    """The tokenizer of a base and its sizes, without its weights. `longest` is the length in bytes of a token."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, AutoTokenizer

        config = AutoConfig.from_pretrained(folder).get_text_config()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        # A base whose positions have no limit names the length that it was trained with, or none.
        lengths = (getattr(config, name, None) for name in ("max_position_embeddings", "seq_length"))
        self.context_length = next((int(length) for length in lengths if length), UNLIMITED_CONTEXT)
        self.vocabulary_size = int(config.vocab_size)
        self.longest = max(len(piece.encode()) for piece in self.tokenizer.get_vocab())


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
        tokenizer = self._tokenizer_of(one.base)
        same = self.last and self.last.request.prompt is request.prompt and self.last.base == one.base
        one.prompt_ids = self.last.prompt_ids if self.last and same else token_ids_of(tokenizer, request)
        self.last = one
        room = tokenizer.context_length - len(one.prompt_ids)
        if room < (1 if request.max_tokens is None else request.max_tokens):
            raise too_long(tokenizer, request, f"{len(one.prompt_ids)}")
        one.max_new_tokens = min(DEFAULT_MAX_TOKENS, room) if request.max_tokens is None else request.max_tokens

    def _tokenizer_of(self, base: str) -> BaseTokenizer:
        folder = bases.folder_of(base, self.store.home)
        key = folder, stamp_of(folder)
        if key not in self.tokenizers:
            while len(self.tokenizers) >= MAX_TOKENIZERS:
                self.tokenizers.popitem(last=False)
            self.tokenizers[key] = BaseTokenizer(folder)
        self.tokenizers.move_to_end(key)
        return self.tokenizers[key]


def token_ids_of(tokenizer: BaseTokenizer, request: GenerationRequest) -> tuple[int, ...]:
    """Return the token IDs of a prompt. Raises ApiError for an empty one, and for IDs that the vocabulary lacks."""
    prompt = request.prompt
    if isinstance(prompt, tuple):
        ids: tuple[int, ...] = prompt
        if ids and max(ids) >= tokenizer.vocabulary_size:
            what = (
                f"The prompt has the token {max(ids)}; the last one of this model is {tokenizer.vocabulary_size - 1}."
            )
            raise ApiError(400, what, "invalid_value", "prompt")
    else:
        size = len(prompt.encode()) if isinstance(prompt, str) else sum(len(one["content"].encode()) for one in prompt)
        if size > tokenizer.context_length * tokenizer.longest:  # this is certain without the work
            raise too_long(tokenizer, request, f"over {size // tokenizer.longest}")
        if isinstance(prompt, str):
            ids = tuple(tokenizer.tokenizer(prompt)["input_ids"])
        else:
            ids = tuple(render(tokenizer.tokenizer, prompt, add_generation_prompt=request.add_generation_prompt))
    if not ids:
        raise ApiError(400, "The prompt is empty.", "invalid_value", param_of(request))
    return ids


def too_long(tokenizer: BaseTokenizer, request: GenerationRequest, tokens: str) -> ApiError:
    what = (
        f"This model's maximum context length is {tokenizer.context_length} tokens; the prompt has {tokens} and the"
        f" answer may have {1 if request.max_tokens is None else request.max_tokens}."
    )
    return ApiError(400, what, "context_length_exceeded", param_of(request))


def param_of(request: GenerationRequest) -> str:
    return "prompt" if isinstance(request.prompt, str | tuple) else "messages"
