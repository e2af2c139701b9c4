"""Answer requests with a base or a fine-tuned model, many at a time, each with the same bits as if it were alone.

Floating-point sums depend on the shapes of the matrices, so a request is always computed in the same shapes, with any
other requests in its batch:
- A conversation's prefix (its system prompt; with a `prompt_cache_key`, all turns before the last one) is computed
  once, alone, and cached for all requests that begin with it.
- The suffix (the rest of the prompt) is padded to a length that depends on its own length alone, and prefilled with
  others of that length, at most MAX_PREFILL_TOKENS at a time. For decoding it is padded to a coarser length; requests
  of one prefix and one such length share a batch of at most MAX_BATCH_ROWS.
- A matrix product has a number of rows for which `batch_invariance` found that each row gets the same bits; copies and
  rows of ended requests fill up the number. Where there is no such number, and on GPUs, each request runs alone. So
  does one that may grow over MAX_BATCHED_TOKENS: many rows of that length would fill the memory.
"""

import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any

from finetune.engine import bases
from finetune.engine.api_errors import ApiError, as_refusal
from finetune.engine.chat_template import render
from finetune.engine.fingerprint import Stamp, base_and_adapter, check_adapter, stamp_of
from finetune.engine.inference.decoding import decode_length, generate
from finetune.engine.inference.generation_types import GeneratedAnswer, GenerationRequest, RequestState
from finetune.engine.inference.loaded_model import MAX_BATCH_ROWS, LoadedModel
from finetune.engine.store import Store

MAX_BATCHED_TOKENS = 2048
MAX_LOADED_BASES = 2  # above it, the least recently used one is dropped
MAX_BATCHES_WAITED = 8  # fuller batches that may go before the oldest request
GATHER_SECONDS = 0.01  # requests of one client arrive together: a few milliseconds fill the batch


class Generator:
    """A thread that owns the models in memory and answers requests as they arrive."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.incoming: queue.Queue[tuple[GenerationRequest, Future[GeneratedAnswer]] | None] = queue.Queue()
        self.pending: list[RequestState] = []
        self.loaded: OrderedDict[str, tuple[Stamp, LoadedModel]] = OrderedDict()
        self.thread = threading.Thread(target=self._run, daemon=True, name="generate")
        self.thread.start()

    def submit(self, request: GenerationRequest) -> "Future[GeneratedAnswer]":
        """Return the future answer; its exception is an ApiError if the request cannot be answered."""
        future: Future[GeneratedAnswer] = Future()
        self.incoming.put((request, future))
        return future

    def close(self) -> None:
        """Stop the thread after its current batch, and wait for it."""
        self.incoming.put(None)
        self.thread.join()

    def _run(self) -> None:
        while True:
            item = self.incoming.get() if not self.pending else None
            closing = item is None and not self.pending
            while item is not None:
                self._admit(*item)
                try:
                    item = self.incoming.get(timeout=GATHER_SECONDS)
                    closing = item is None
                except queue.Empty:
                    item = None
            if closing:
                return
            if self.pending:
                self._answer_batch()
                while not self.incoming.empty():
                    item = self.incoming.get()
                    if item is None:
                        return
                    self._admit(*item)

    def _load(self, base: str) -> LoadedModel:
        """Return a base in memory. It is loaded again if its files have changed."""
        folder = bases.folder_of(base, self.store.home)
        stamp = stamp_of(folder)
        if base in self.loaded and self.loaded[base][0] != stamp:
            del self.loaded[base]
        if base not in self.loaded:
            while len(self.loaded) >= MAX_LOADED_BASES:
                self.loaded.popitem(last=False)
            self.loaded[base] = stamp, LoadedModel(folder)
        self.loaded.move_to_end(base)
        return self.loaded[base][1]

    def _admit(self, request: GenerationRequest, future: "Future[GeneratedAnswer]") -> None:
        """Turn a request into token IDs and add it to the pending ones, or refuse it."""
        if not future.set_running_or_notify_cancel():  # its client is gone; from here on it cannot be cancelled
            return
        try:
            import torch

            loaded = self._load(base_and_adapter(self.store, request.model)[0])
            prompt = render(loaded.tokenizer, request.messages, add_generation_prompt=request.add_generation_prompt)
            room = loaded.context_length - len(prompt)
            if room < (request.max_tokens or 1):
                what = (
                    f"This model's maximum context length is {loaded.context_length} tokens; the prompt has"
                    f" {len(prompt)} and the answer may have {request.max_tokens or 1}."
                )
                raise ApiError(400, what, "context_length_exceeded", "messages")
            alone = loaded.has_sliding_window or request.prompt_logprobs is not None
            prefix_ids = () if alone else prompt_prefix(loaded.tokenizer, request, prompt)
            state = RequestState(
                request=request,
                future=future,
                prefix_ids=prefix_ids,
                suffix_ids=prompt[len(prefix_ids) :],
                max_new_tokens=request.max_tokens or room,
                random=torch.Generator().manual_seed(request.seed),
            )
            self.pending.append(state)
        except Exception as error:
            future.set_exception(as_refusal(error))

    def _answer_batch(self) -> None:
        """Answer the fullest batch of pending requests, or the oldest request's batch if that has waited enough."""
        batches: dict[tuple[Any, ...], list[RequestState]] = {}
        for state in self.pending:
            batches.setdefault(batch_key(state), []).append(state)
        oldest = self.pending[0]
        must_go = oldest.batches_waited >= MAX_BATCHES_WAITED
        batch = batches[batch_key(oldest)] if must_go else max(batches.values(), key=len)
        try:
            # Looked up again: the model may have been deleted since the request was admitted.
            model = batch[0].request.model
            base, adapter = base_and_adapter(self.store, model)
            if adapter:
                check_adapter(self.store, adapter, model)
            loaded = self._load(base)
            loaded.switch_to(adapter)  # may empty `invariant_sizes`, if this adapter's products mix rows
            batched = bool(loaded.invariant_sizes) and may_be_batched(batch[0])
            batch = batch[: MAX_BATCH_ROWS if batched else 1]
            generate(loaded, adapter, batch, batched)
        except Exception as error:
            for state in batch:
                if not state.future.done():
                    state.future.set_exception(as_refusal(error))
        answered = {id(state) for state in batch}
        self.pending = [state for state in self.pending if id(state) not in answered]
        for state in self.pending:
            state.batches_waited += 1


def prompt_prefix(tokenizer: Any, request: GenerationRequest, prompt: list[int]) -> tuple[int, ...]:
    """Return the token IDs of the turns that other requests have too, if the prompt begins with them; else none.

    These are the system prompt, or all turns before the last one if the request says so. There are none with chat
    templates that render them differently before other turns.
    """
    from jinja2 import TemplateError

    before = list(request.messages[:-1])
    shared = before if request.shares_turns else [one for one in before[:1] if one["role"] in ("system", "developer")]
    if not shared:
        return ()
    try:
        tokens = render(tokenizer, shared, add_generation_prompt=False)
    except TemplateError:
        return ()
    return tuple(tokens) if len(tokens) < len(prompt) and prompt[: len(tokens)] == tokens else ()


def batch_key(state: RequestState) -> tuple[Any, ...]:
    """Return what requests must have in common to share a batch."""
    return state.request.model, state.prefix_ids, decode_length(state), may_be_batched(state)


def may_be_batched(state: RequestState) -> bool:
    """Return whether a request may share a batch: it stays short, and does not ask for its prompt's log-probabilities.

    Those need the logits at all places of the prompt, which would fill the memory for many requests.
    """
    return state.request.prompt_logprobs is None and max_length(state) <= MAX_BATCHED_TOKENS


def max_length(state: RequestState) -> int:
    """Return a request's length in tokens with the longest answer that it allows."""
    return len(state.prefix_ids) + decode_length(state) + state.max_new_tokens
