"""Answers from a base or a fine-tuned model, many requests at a time, and the same bits for each as if it were alone.

Sums in floating point depend on the shapes they are computed in, so a request always meets the same shapes, whoever it
shares a batch with:
- what a conversation opens with (its system prompt) is computed once, alone, and kept: all that open alike go on there;
- the rest is padded to a length that only its own decides, and only requests of one opening and one such length share
  a batch; a batch's prompts are computed PROMPT_TOKENS at a time, or one by one where they are longer;
- from then on there are ROWS rows, of which any number may be copies and rows that have ended; a request that may grow
  over LONGEST tokens has a batch to itself instead: so many rows of such a length would fill the memory.
A row's result then does not depend on the others, unless matrix products treat the rows of one shape unlike. That is
looked at when a model is loaded; where they do, and on cards, each request runs alone.
"""

import copy
import queue
import re
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetune.engine import bases
from finetune.engine.encode import Message, render
from finetune.engine.errors import ApiError, JobError
from finetune.engine.store import Store

# Multiples of 48 and threads by powers of two: so the rows divide evenly into the blocks of every kernel met so far.
ROWS = 48  # a step of one row alone takes half the time in bfloat16, and a third in float32
PROMPT_TOKENS = 192
SHORTEST = 48  # what prompts are padded to, or twice it, or twice that, …
LONGEST = 2048
MOST_THREADS = 8
LOADED_BASES = 2  # the least recently used one is dropped when another is wanted
KEPT_OPENINGS = 8  # of a base, likewise
PATIENCE = 8  # batches that may go before a request that came earlier, because they are fuller


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


class Loaded:
    """A base in memory with the adapters that were asked for so far."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(min(MOST_THREADS, 1 << (torch.get_num_threads().bit_length() - 1)))
        dtype = getattr(torch, bases.best_dtype())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.bare: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.bare.to(torch.device(device))
        self.model = self.bare  # from the first adapter on, PEFT's model around it
        self.rows = 1  # of the batch under way, copies included
        # The last position of each row is no contiguous slice; for such, PyTorch may copy the vocabulary row by row.
        self.bare.get_output_embeddings().register_forward_pre_hook(
            lambda module, inputs: (filled(inputs[0], self.rows),)
        )
        self.longest = self.bare.config.max_position_embeddings
        ends = self.bare.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self.probed: set[tuple[int, ...]] = set()
        self.together = device == "cpu" and self._rows_do_not_mix()
        self.adapters: dict[Path, str] = {}
        self.openings: OrderedDict[tuple[Path | None, tuple[int, ...]], Any] = OrderedDict()

    def _rows_do_not_mix(self) -> bool:
        """Whether a matrix product of the shapes used gives a row the same bits at any place and among any others."""
        import torch

        head = self.bare.get_output_embeddings()
        random = torch.Generator().manual_seed(0)
        for module in self.bare.modules():
            if not isinstance(module, torch.nn.Linear) or tuple(module.weight.shape) in self.probed:
                continue
            self.probed.add(tuple(module.weight.shape))
            for size in (ROWS,) if module is head else (ROWS, PROMPT_TOKENS):
                states = torch.randn(size, module.in_features, generator=random).to(module.weight.dtype)
                with torch.inference_mode():
                    results = torch.nn.functional.linear(states, module.weight)
                    for _ in range(4):
                        order = torch.randperm(size, generator=random)
                        moved = torch.nn.functional.linear(states[order], module.weight)
                        if not torch.equal(moved, results[order]):
                            return False
        return True

    def switch_to(self, adapter: Path | None) -> Any:
        """The model with this adapter, or without any."""
        if not adapter:
            if self.adapters:
                self.model.base_model.disable_adapter_layers()
            return self.model
        if adapter not in self.adapters:
            self._load_adapter(adapter)
        self.model.base_model.enable_adapter_layers()
        self.model.set_adapter(self.adapters[adapter])
        return self.model

    def _load_adapter(self, adapter: Path) -> None:
        from peft import PeftModel

        name = f"adapter{len(self.adapters)}"
        settings: dict[str, Any] = {"adapter_name": name, "autocast_adapter_dtype": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT's own use of an old name in Transformers
            if self.adapters:
                self.model.load_adapter(adapter, **settings)
            else:
                self.model = PeftModel.from_pretrained(self.model, adapter, **settings)
        self.model.eval()
        self.adapters[adapter] = name
        self.together = self.together and self._rows_do_not_mix()

    def opened(self, adapter: Path | None, opening: tuple[int, ...], rows: int) -> Any:
        """A fresh cache of keys and values that holds an opening, for so many rows."""
        import torch
        from transformers import DynamicCache

        if not opening:
            return DynamicCache(config=self.bare.config)
        if (adapter, opening) not in self.openings:
            while len(self.openings) >= KEPT_OPENINGS:
                self.openings.popitem(last=False)
            ids = torch.tensor([opening], device=self.bare.device)
            output = self.switch_to(adapter)(input_ids=ids, use_cache=True, logits_to_keep=1)
            self.openings[adapter, opening] = output.past_key_values
        self.openings.move_to_end((adapter, opening))
        cache = copy.deepcopy(self.openings[adapter, opening])
        cache.batch_repeat_interleave(rows)
        return cache


class Generator:
    """A thread that owns the models in memory and answers requests as they come."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.waiting: queue.Queue[tuple[Request, Future[Answer]] | None] = queue.Queue()
        self.pending: list[Row] = []
        self.loaded: OrderedDict[str, Loaded] = OrderedDict()
        self.thread = threading.Thread(target=self._run, daemon=True, name="generate")
        self.thread.start()

    def submit(self, request: Request) -> "Future[Answer]":
        """The answer to come; its exception is an ApiError where the request cannot be answered."""
        future: Future[Answer] = Future()
        self.waiting.put((request, future))
        return future

    def close(self) -> None:
        self.waiting.put(None)
        self.thread.join()

    def _run(self) -> None:
        while True:
            item = self.waiting.get() if not self.pending else None
            closing = item is None and not self.pending
            while item is not None:
                self._admit(*item)
                try:
                    # Requests of one client arrive together: a few milliseconds fill the batch.
                    item = self.waiting.get(timeout=0.01)
                    closing = item is None
                except queue.Empty:
                    item = None
            if closing:
                return
            if self.pending:
                self._answer_some()
                while not self.waiting.empty():
                    item = self.waiting.get()
                    if item is None:
                        return
                    self._admit(*item)

    def _base_of(self, model: str) -> tuple[str, Path | None]:
        row = self.store.row("SELECT base, folder FROM models WHERE id = ?", model)
        return (row["base"], self.store.home / "models" / row["folder"]) if row else (model, None)

    def _load(self, base: str) -> Loaded:
        if base not in self.loaded:
            while len(self.loaded) >= LOADED_BASES:
                self.loaded.popitem(last=False)
            self.loaded[base] = Loaded(bases.folder_of(base, self.store.home))
        self.loaded.move_to_end(base)
        return self.loaded[base]

    def _admit(self, request: Request, future: "Future[Answer]") -> None:
        """Turn a request into token IDs, or refuse it."""
        try:
            import torch

            loaded = self._load(self._base_of(request.model)[0])
            prompt = render(loaded.tokenizer, request.messages, prompt=True)
            room = loaded.longest - len(prompt)
            if room < (request.max_tokens or 1):
                raise ApiError(
                    400,
                    f"This model's maximum context length is {loaded.longest} tokens; the prompt has {len(prompt)}.",
                    "context_length_exceeded",
                    "messages",
                )
            opening = opening_of(loaded.tokenizer, request.messages, prompt)
            rest, random = prompt[len(opening) :], torch.Generator().manual_seed(request.seed)
            self.pending.append(Row(request, future, opening, rest, request.max_tokens or room, random))
        except Exception as error:
            future.set_exception(refusal(error))

    def _answer_some(self) -> None:
        """Answer the fullest batch that the pending requests make, or that of the oldest when it has waited enough."""
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.pending:
            groups.setdefault(meets(row), []).append(row)
        oldest = self.pending[0]
        rows = groups[meets(oldest)] if oldest.waited >= PATIENCE else max(groups.values(), key=len)
        try:
            base, adapter = self._base_of(rows[0].request.model)  # anew: it may have been deleted since
            loaded = self._load(base)
            loaded.switch_to(adapter)  # which may show that this adapter's rows mix
            loaded.rows = ROWS if loaded.together and grown(rows[0]) <= LONGEST else 1
            rows = rows[: loaded.rows]
            decode(loaded, adapter, rows)
        except Exception as error:
            for row in rows:
                if not row.future.done():
                    row.future.set_exception(refusal(error))
        taken = {id(row) for row in rows}
        self.pending = [row for row in self.pending if id(row) not in taken]
        for row in self.pending:
            row.waited += 1


def refusal(error: Exception) -> Exception:
    """An error as the client shall read it."""
    return ApiError(404, str(error), error.code, error.param) if isinstance(error, JobError) else error


def opening_of(tokenizer: Any, messages: Sequence[Message], prompt: list[int]) -> tuple[int, ...]:
    """The tokens of the system prompt, where the base's chat template lets a conversation begin with them as they are;
    else none."""
    from jinja2 import TemplateError

    system = [message for message in messages[:1] if message["role"] in ("system", "developer")]
    if not system or len(messages) == 1:
        return ()
    try:
        tokens = render(tokenizer, system, prompt=False)
    except TemplateError:
        return ()
    return tuple(tokens) if len(tokens) < len(prompt) and prompt[: len(tokens)] == tokens else ()


def meets(row: Row) -> tuple[Any, ...]:
    """What requests have in common that may share a batch."""
    return row.request.model, row.opening, padded(row.rest), grown(row) <= LONGEST


def grown(row: Row) -> int:
    """The length of a request with the longest answer that it allows."""
    return len(row.opening) + padded(row.rest) + row.limit


def padded(tokens: Sequence[int]) -> int:
    """The length of a prompt's rest with padding: at least one token, for without any, attention takes another path."""
    length = SHORTEST
    while length <= len(tokens):
        length *= 2
    return length if length <= LONGEST else (len(tokens) // SHORTEST + 1) * SHORTEST


def filled(rows: Any, size: int) -> Any:
    """A tensor (rows, …) filled to this many rows with copies of the first."""
    import torch

    return torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])])


def decode(loaded: Loaded, adapter: Path | None, rows: list[Row]) -> None:
    """Generate token by token for rows that meet, and set each row's answer when it has ended."""
    import torch

    for row in rows:
        row.began = time.monotonic()
    model, device = loaded.switch_to(adapter), loaded.bare.device
    with torch.inference_mode():
        logits, mask, cache = read_prompts(loaded, adapter, rows)
        while True:
            for row, scores in zip(rows, logits.float().cpu(), strict=False):  # there may be more, which only fill
                if row.finish_reason is None:
                    choose(loaded, row, scores)
            if all(row.finish_reason for row in rows):
                return
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            output = model(
                input_ids=filled(torch.tensor([row.made[-1:] or [0] for row in rows], device=device), loaded.rows),
                attention_mask=mask,
                # A row that has ended goes on beside the others, but not over the base's last position.
                position_ids=(mask.sum(1, keepdim=True) - 1).clamp(max=loaded.longest - 1),
                past_key_values=cache,
                use_cache=True,
            )
            logits = output.logits[:, -1]


def read_prompts(loaded: Loaded, adapter: Path | None, rows: list[Row]) -> tuple[Any, Any, Any]:
    """Compute the prompts of rows that meet: the logits at their ends, their masks, and the cache to go on with."""
    import torch

    model, device = loaded.switch_to(adapter), loaded.bare.device
    opening, length = rows[0].opening, padded(rows[0].rest)
    size = max(1, PROMPT_TOKENS // length) if loaded.rows > 1 else 1
    logits, masks, caches = [], [], []
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        ids = torch.full((len(part), length), loaded.tokenizer.eos_token_id)
        mask = torch.ones(len(part), len(opening) + length, dtype=torch.long)
        for index, row in enumerate(part):
            ids[index, length - len(row.rest) :] = torch.tensor(row.rest)
            mask[index, len(opening) : len(opening) + length - len(row.rest)] = 0
        mask = filled(mask, size).to(device)
        output = model(
            input_ids=filled(ids, size).to(device),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, len(opening) :],
            past_key_values=loaded.opened(adapter, opening, size),
            use_cache=True,
            logits_to_keep=1,
        )
        logits.append(output.logits[: len(part), -1])
        masks.append(mask[: len(part)])
        caches.append(output.past_key_values)
    cache, order = caches[0], filled(torch.arange(len(rows)), loaded.rows).to(device)
    for layer, *others in zip(*(found.layers for found in caches), strict=True):
        layer.keys = torch.cat([layer.keys, *(other.keys for other in others)])[order]
        layer.values = torch.cat([layer.values, *(other.values for other in others)])[order]
    return torch.cat(logits), torch.cat(masks)[order], cache


def choose(loaded: Loaded, row: Row, scores: Any) -> None:
    """Take a row's next token from its logits (vocabulary,), and end the row where its request says so."""
    import torch

    request, tokenizer = row.request, loaded.tokenizer
    log_probabilities = torch.log_softmax(scores, -1)
    token = int(scores.argmax())
    if not log_probabilities[token].isfinite():
        row.finish_reason = "error"
        what = f"The model `{request.model}` is broken: its logits are not finite numbers."
        row.future.set_exception(ApiError(500, what, "server_error"))
        return
    if request.temperature >= 1e-5:  # below, a division might overflow
        token = drawn(scores, request.temperature, request.top_p, row.random)
    row.made.append(token)
    if token in loaded.ends:
        row.finish_reason = "stop"
    else:
        if request.top_logprobs is not None:
            row.tokens.append(told(tokenizer, token, log_probabilities, request.top_logprobs))
        if request.stop or len(row.made) == row.limit:
            row.text = tokenizer.decode(row.made, skip_special_tokens=True)
            found = [row.text.index(stop) for stop in request.stop if stop in row.text]
            if found:
                row.text, row.finish_reason = row.text[: min(found)], "stop"
            elif len(row.made) == row.limit:
                row.finish_reason = "length"
    if row.finish_reason:
        if token in loaded.ends:
            row.text = tokenizer.decode(row.made[:-1], skip_special_tokens=True)
        prompt_tokens, seconds = len(row.opening) + len(row.rest), time.monotonic() - row.began
        row.future.set_result(Answer(row.text, row.finish_reason, prompt_tokens, len(row.made), row.tokens, seconds))


def drawn(scores: Any, temperature: float, top_p: float, random: Any) -> int:
    """A token drawn at a temperature from the nucleus: the likeliest up to a mass of top_p, at least one."""
    import torch

    probabilities = torch.softmax(scores / temperature, -1)
    if top_p < 1:
        falling, order = probabilities.sort(descending=True, stable=True)
        probabilities[order[falling.cumsum(0) - falling > top_p]] = 0
    sums = probabilities.cumsum(0)
    return int(torch.searchsorted(sums, sums[-1] * torch.rand(1, generator=random)))


def told(tokenizer: Any, token: int, log_probabilities: Any, alternatives: int) -> Token:
    """A token as it is reported, with its log probability and those of the likeliest."""
    top = log_probabilities.topk(alternatives)
    tops = [one(tokenizer, i, value) for value, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
    return replace(one(tokenizer, token, float(log_probabilities[token])), top=tops)


def one(tokenizer: Any, token: int, logprob: float) -> Token:
    text = tokenizer.decode([token])
    return Token(text, raw_of(tokenizer, token, text), round(logprob, 6))


def raw_of(tokenizer: Any, token: int, text: str) -> bytes:
    """A token's bytes, which its text does not tell where it is a piece of a letter."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    piece = tokenizer.convert_ids_to_tokens(token)
    if "\ufffd" not in text or piece is None:
        return text.encode()
    if match := re.fullmatch("<0x([0-9A-F]{2})>", piece):  # as SentencePiece has them
        return bytes([int(match[1], 16)])
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else text.encode()
