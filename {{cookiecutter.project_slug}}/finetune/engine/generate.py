"""Answers from a base or a fine-tuned model, many requests at a time, and the same bits for each as if it were alone.

Sums in floating point depend on the shapes they are computed in, so a request must always meet the same shapes,
whoever it shares a batch with:
- prompts are padded to a multiple of BUCKET tokens that only their own length decides, by at least one token (without
  padding, attention takes another path), and only prompts of one bucket share a batch;
- after the prompt, a batch is filled to a multiple of BATCH_STEP rows.
In bfloat16 on a CPU the result of a row then does not depend on the other rows (measured, and kept so by a test);
in float32, and on cards, matrix products still differ, so there each request runs alone.
"""

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
    prompt: list[int]
    limit: int
    random: Any
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
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.model.to(torch.device(device))
        # The last position of each row is no contiguous slice; for such, PyTorch may copy the vocabulary row by row.
        head = self.model.get_output_embeddings()
        head.register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(),))
        self.longest = self.model.config.max_position_embeddings
        ends = self.model.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self.together = device == "cpu" and dtype == torch.bfloat16
        self.adapters: dict[Path, str] = {}

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
            random = torch.Generator().manual_seed(request.seed)
            self.pending.append(Row(request, future, prompt, request.max_tokens or room, random))
        except JobError as error:
            future.set_exception(ApiError(404, str(error), error.code, error.param))
        except Exception as error:
            future.set_exception(error)

    def _answer_some(self) -> None:
        """Answer the oldest pending request and those that may share its batch."""
        oldest = self.pending[0]
        base, adapter = self._base_of(oldest.request.model)
        loaded = self._load(base)
        key = (oldest.request.model, bucket(oldest.prompt))
        rows = [row for row in self.pending if (row.request.model, bucket(row.prompt)) == key]
        rows = rows[: MAX_ROWS if loaded.together else 1]
        self.pending = [row for row in self.pending if not any(row is taken for taken in rows)]
        try:
            decode(loaded, loaded.switch_to(adapter), rows)
        except Exception as error:
            for row in rows:
                if not row.future.done():
                    row.future.set_exception(error)


def bucket(prompt: Sequence[int]) -> int:
    """The padded length of a prompt: the next multiple of BUCKET that leaves at least one token of padding."""
    return (len(prompt) // BUCKET + 1) * BUCKET


def decode(loaded: Loaded, model: Any, rows: list[Row]) -> None:
    """Generate token by token for rows of one bucket, and set each row's answer when it has ended."""
    import torch

    device = next(model.parameters()).device
    length = bucket(rows[0].prompt)
    ids = torch.full((len(rows), length), loaded.tokenizer.eos_token_id, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, length - len(row.prompt) :] = torch.tensor(row.prompt)
        mask[index, length - len(row.prompt) :] = 1
    with torch.inference_mode():
        ids, mask = ids.to(device), mask.to(device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        logits, cache, alive = output.logits[:, -1].float().cpu(), output.past_key_values, rows
        while True:
            for row, scores in zip(alive, logits, strict=False):
                choose(loaded, row, scores)
            left = [index for index, row in enumerate(alive) if row.finish_reason is None]
            if not left:
                return
            # Rows that ended make room; the gaps up to the next step are filled with copies, whose results are dropped.
            size = -(-len(left) // BATCH_STEP) * BATCH_STEP if loaded.together else len(left)
            if size != len(mask) or len(left) != len(alive):
                kept = torch.tensor(left + [left[0]] * (size - len(left)), device=device)
                cache.batch_select_indices(kept)
                mask, alive = mask[kept], [alive[i] for i in left]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            last = [row.made[-1] for row in alive]
            last += [last[0]] * (len(mask) - len(last))
            output = model(
                input_ids=torch.tensor(last, device=device)[:, None],
                attention_mask=mask,
                position_ids=mask.sum(1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            )
            logits, cache = output.logits[:, -1].float().cpu(), output.past_key_values


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
        row.future.set_result(Answer(row.text, row.finish_reason, len(row.prompt), len(row.made), row.tokens))
