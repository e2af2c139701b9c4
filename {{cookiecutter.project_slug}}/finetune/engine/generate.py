"""Answers from a base or a fine-tuned model, many requests at a time, and the same bits for each as if it were alone.

Sums in floating point depend on the shapes they are computed in, so a request must always meet the same shapes,
whoever it shares a batch with:
- what a conversation opens with (its system prompt) is computed once, alone, and kept: all that open alike go on there;
- the rest is padded to a multiple of BUCKET tokens that only its own length decides, by at least one token (without
  padding, attention takes another path), and only requests of one opening and one bucket share a batch;
- after the prompt, and at the vocabulary, a batch is filled to a multiple of BATCH_STEP rows;
- after the prompt, attention is the plain kind: the fast one splits its sums by the number of rows.
The result of a row then does not depend on the others where matrix products do not: in bfloat16 on the CPUs that have
it, in float32 on some. That is looked at when a model is loaded; where they do, and on cards, each request runs alone.
"""

import copy
import queue
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.engine import bases
from finetune.engine.encode import Message, render
from finetune.engine.errors import ApiError, JobError
from finetune.engine.store import Store

BUCKET = 16
BATCH_STEP = 8
MAX_ROWS = 32
LOADED_BASES = 2  # the least recently used one is dropped when another is wanted
KEPT_OPENINGS = 8  # of a base, likewise
PATIENCE = 8  # batches that may go before a request that came earlier, because they are fuller


@dataclass(frozen=True)
class Request:
    """One choice to generate: its sampling settings, and how many alternatives to report per token."""

    model: str
    messages: Sequence[Message]
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...]
    top_logprobs: int


@dataclass
class Token:
    text: str
    logprob: float
    top: list[tuple[str, float]]


@dataclass
class Answer:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: list[Token]


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
        dtype = getattr(torch, bases.best_dtype())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.bare: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.bare.to(torch.device(device))
        self.model = self.bare  # from the first adapter on, PEFT's model around it
        # The last position of each row is no contiguous slice; for such, PyTorch may copy the vocabulary row by row.
        self.bare.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: (filled(inputs[0]),))
        self.longest = self.bare.config.max_position_embeddings
        ends = self.bare.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self.on_cpu = device == "cpu"
        self.probed: set[tuple[int, ...]] = set()
        self.together = self.on_cpu and self._rows_do_not_mix()
        self.adapters: dict[Path, str] = {}
        self.openings: OrderedDict[tuple[Path | None, tuple[int, ...]], Any] = OrderedDict()

    def _rows_do_not_mix(self) -> bool:
        """Whether a matrix product gives a row the same bits whatever the other rows, in each new shape of weights."""
        import torch

        head = self.bare.get_output_embeddings()
        for module in self.bare.modules():
            if not isinstance(module, torch.nn.Linear) or tuple(module.weight.shape) in self.probed:
                continue
            self.probed.add(tuple(module.weight.shape))
            sizes = (BATCH_STEP, 3 * BATCH_STEP, MAX_ROWS) + (() if module is head else (10 * BUCKET, 40 * BUCKET))
            with torch.inference_mode():
                random = torch.Generator().manual_seed(0)
                states = torch.randn(sizes[-1], module.in_features, generator=random).to(module.weight.dtype)
                whole = torch.nn.functional.linear(states, module.weight)
                for size in sizes:
                    part = torch.nn.functional.linear(states[-size:], module.weight)
                    if not torch.equal(part, whole[-size:]):
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

    def opened(self, adapter: Path | None, opening: tuple[int, ...]) -> Any:
        """A fresh cache of keys and values that holds an opening, for one row."""
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
        return copy.deepcopy(self.openings[adapter, opening])


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
            rows = rows[: MAX_ROWS if loaded.together else 1]
            decode(loaded, adapter, rows)
        except Exception as error:
            for row in rows:
                if not row.future.done():
                    row.future.set_exception(refusal(error))
        self.pending = [row for row in self.pending if not any(row is taken for taken in rows)]
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
    return row.request.model, row.opening, bucket(row.rest)


def bucket(tokens: Sequence[int]) -> int:
    """The padded length of a prompt's rest: the next multiple of BUCKET that leaves at least one token of padding."""
    return (len(tokens) // BUCKET + 1) * BUCKET


def filled(states: Any) -> Any:
    """The states (rows, …), filled to a multiple of BATCH_STEP rows with copies of the first."""
    import torch

    return torch.cat([states, states[:1].expand(-len(states) % BATCH_STEP, *states.shape[1:])])


def decode(loaded: Loaded, adapter: Path | None, rows: list[Row]) -> None:
    """Generate token by token for rows that meet, and set each row's answer when it has ended."""
    import torch

    model, device = loaded.switch_to(adapter), loaded.bare.device
    opening, length = len(rows[0].opening), bucket(rows[0].rest)
    ids = torch.full((len(rows), length), loaded.tokenizer.eos_token_id)
    mask = torch.zeros(len(rows), opening + length, dtype=torch.long)
    mask[:, :opening] = 1
    for index, row in enumerate(rows):
        ids[index, length - len(row.rest) :] = torch.tensor(row.rest)
        mask[index, opening + length - len(row.rest) :] = 1
    with torch.inference_mode():
        ids, mask = ids.to(device), mask.to(device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, opening:]
        cache = loaded.opened(adapter, rows[0].opening)
        if opening:
            cache.batch_repeat_interleave(len(rows))
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if loaded.on_cpu:
            loaded.bare.set_attn_implementation("eager")
        try:
            go_on(loaded, model, rows, output, mask)
        finally:
            if loaded.on_cpu:
                loaded.bare.set_attn_implementation("sdpa")


def go_on(loaded: Loaded, model: Any, alive: list[Row], output: Any, mask: Any) -> None:
    """From the prompt's end on: choose a token for each row, and feed it back, until every row has ended."""
    import torch

    while True:
        logits, cache = output.logits[:, -1].float().cpu(), output.past_key_values
        for row, scores in zip(alive, logits, strict=False):  # logits may have rows that only fill
            choose(loaded, row, scores)
        left = [index for index, row in enumerate(alive) if row.finish_reason is None]
        if not left:
            return
        # Rows that ended make room; the gaps up to the next step are filled with copies, whose results are dropped.
        size = -(-len(left) // BATCH_STEP) * BATCH_STEP if loaded.together else len(left)
        if size != len(mask) or len(left) != len(alive):
            kept = torch.tensor(left + [left[0]] * (size - len(left)), device=mask.device)
            cache.batch_select_indices(kept)
            mask, alive = mask[kept], [alive[i] for i in left]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        last = [row.made[-1] for row in alive]
        last += [last[0]] * (len(mask) - len(last))
        output = model(
            input_ids=torch.tensor(last, device=mask.device)[:, None],
            attention_mask=mask,
            position_ids=mask.sum(1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
        )


def choose(loaded: Loaded, row: Row, scores: Any) -> None:
    """Take a row's next token from its logits (vocabulary,), and end the row where its request says so."""
    import torch

    request, tokenizer = row.request, loaded.tokenizer
    if request.temperature == 0:
        token = int(scores.argmax())
    else:
        probabilities, order = torch.softmax(scores / request.temperature, -1).sort(descending=True, stable=True)
        # The nucleus: the likeliest tokens up to a mass of top_p, the first always among them.
        probabilities[(probabilities.cumsum(0) - probabilities) > request.top_p] = 0
        token = int(order[torch.multinomial(probabilities, 1, generator=row.random)])
    row.made.append(token)
    if token in loaded.ends:
        row.finish_reason = "stop"
    else:
        log_probabilities = torch.log_softmax(scores, -1)
        top = log_probabilities.topk(request.top_logprobs)
        row.tokens.append(
            Token(
                tokenizer.decode([token]),
                round(float(log_probabilities[token]), 6),
                [
                    (tokenizer.decode([i]), round(v, 6))
                    for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
                ],
            )
        )
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
        row.future.set_result(
            Answer(row.text, row.finish_reason, len(row.opening) + len(row.rest), len(row.made), row.tokens)
        )
