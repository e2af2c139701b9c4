"""Answers from a base or a fine-tuned model, many requests at a time, and the same bits for each as if it were alone.

Sums in floating point depend on the shapes they are computed in, so a request always meets shapes that give its bits,
whoever it shares a batch with:
- what a conversation opens with (its system prompt) is computed once, alone, and kept: all that open alike go on there;
- the rest is padded to a length that only its own decides, and computed with others of that length, at most
  PROMPT_TOKENS at a time; for the answer it is padded to a rougher length, and requests of one opening and one such
  length share a batch of at most ROWS;
- a matrix product has a number of rows that was seen to give each row the bits that all such numbers give (exact.py);
  copies and rows that have ended make up for what is missing. Where there are no such numbers, and on cards, each
  request runs alone, and so does one that may grow over LONGEST tokens: many rows of that length would fill the memory.
"""

import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from finetune.engine import bases
from finetune.engine.api_errors import ApiError, JobError
from finetune.engine.inference.decoding import decode, kept_length
from finetune.engine.inference.generation_types import Answer, Request, Row
from finetune.engine.inference.loaded_model import ROWS, Loaded
from finetune.engine.store import Store
from finetune.engine.training.encoding import Message, render

LONGEST = 2048  # tokens
LOADED_BASES = 2  # the least recently used one is dropped when another is wanted
PATIENCE = 8  # batches that may go before a request that came earlier, because they are fuller


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
            opening = () if loaded.windowed else opening_of(loaded.tokenizer, request.messages, prompt)
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
            together = bool(loaded.sizes) and grown(rows[0]) <= LONGEST
            rows = rows[: ROWS if together else 1]
            decode(loaded, adapter, rows, together)
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
    return row.request.model, row.opening, kept_length(row), grown(row) <= LONGEST


def grown(row: Row) -> int:
    """The length of a request with the longest answer that it allows."""
    return len(row.opening) + kept_length(row) + row.limit
