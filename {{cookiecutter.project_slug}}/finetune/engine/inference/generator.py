"""Answer requests with a base or a fine-tuned model, many at a time, each with the same bits as if it were alone.

A thread computes pass after pass, or two at the same time. Each has tokens of many requests: the next token of each
answer, and blocks of the prompts of new requests. A request may join, leave or end between any two passes.
Floating-point sums depend on the shapes of the matrices, so that each request has the same bits in any company
- a matrix product has a number of rows for which `batch_invariance` found that each row gets the same bits,
- attention is computed over the keys and values of each request apart (`segment_attention`), and
- prompts are computed in blocks that begin at multiples of one size, so a block that several prompts begin with is
  computed once and copied (`row_cache`).
Where no number of rows is invariant, and on GPUs, a pass has tokens of one request only.
"""

import gc
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

import psutil

from finetune.engine import allocator, bases
from finetune.engine.api_errors import ApiError
from finetune.engine.fingerprint import Stamp, base_and_adapter, check_adapter, stamp_of
from finetune.engine.inference.generation_types import GeneratedAnswer, GenerationRequest, Listener, RequestState
from finetune.engine.inference.loaded_model import LoadedModel, import_libraries
from finetune.engine.inference.pass_results import set_exception, use
from finetune.engine.inference.prompts import Prompts, Submitted
from finetune.engine.inference.row_cache import block_keys
from finetune.engine.inference.scheduling import plan_passes
from finetune.engine.inference.segment_attention import one_thread
from finetune.engine.store import Store

MAX_LOADED_BASES = 2  # above it, the least recently used one is dropped
# Bytes of the keys and values of prompts and answers that are in memory.
MAX_RESERVED = psutil.virtual_memory().total // 8


class Generator:
    """Two threads: one turns prompts into token IDs, the other owns the models in memory and answers.

    With `ahead`, they do what takes long before the first request needs it: imports, and the base of a job.
    """

    def __init__(self, store: Store, ahead: bool = False) -> None:
        self.store, self.ahead = store, ahead
        self.prompts = Prompts(store)
        self.jobs: set[str] = set()  # those that were created here, and that nobody has seen succeeded
        self.incoming: queue.Queue[Submitted | Callable[[], object] | None] = queue.Queue()
        self.prepared: queue.Queue[Submitted | Callable[[], object] | None] = queue.Queue()
        self.waiting: list[Submitted] = []  # for memory
        self.running: list[RequestState] = []
        self.loaded: OrderedDict[str, tuple[Stamp, LoadedModel]] = OrderedDict()
        self.started = self.passes = 0
        self.threads = [
            threading.Thread(target=self._prepare, daemon=True, name="prompts"),
            threading.Thread(target=self._run, daemon=True, name="generate"),
        ]
        for thread in self.threads:
            thread.start()

    def submit(
        self,
        request: GenerationRequest,
        listener: Listener | None = None,
        group: object = None,
        interactive: bool = True,
    ) -> "Future[GeneratedAnswer]":
        """Return the future answer; its exception is an ApiError if the request cannot be answered.

        Cancel the future when nobody waits for the answer any more: its work stops after the current pass. `listener`
        is called in the generator's thread with each piece of the answer. The choices of one request have one `group`.
        """
        one = Submitted(request, Future(), listener, group if group is not None else object(), interactive)
        self.incoming.put(one)
        return one.future

    def before_training(self, job_id: str, base: str) -> None:
        """Give the memory of the bases back that no running request uses: a job that is about to begin needs it.

        With `ahead`, the job's base is converted too, while its trainer still imports torch.
        """
        self.prepared.put(self._drop_idle_bases)
        if self.ahead:
            self.jobs.add(job_id)
            self.incoming.put(partial(self._convert, base))

    def after_training(self, job_id: str, base: str) -> None:
        """With `ahead`, load the base of a job that has succeeded: its model is asked soon."""
        if job_id in self.jobs:
            self.jobs.discard(job_id)
            self.incoming.put(partial(self.prompts.tokenizer_of, base))
            self.prepared.put(partial(self._load, base))

    def close(self) -> None:
        """Stop the threads after the current prompt and pass, and wait for them."""
        self.incoming.put(None)
        self.prepared.put(None)
        for thread in self.threads:
            thread.join()

    def _prepare(self) -> None:
        if self.ahead:
            attempt(import_libraries)
        while one := self.incoming.get():
            if not isinstance(one, Submitted):
                attempt(one)
                continue
            if one.future.cancelled():  # its client is gone
                continue
            try:
                self.prompts.complete(one)
            except Exception as error:
                set_exception(one.future, error)
            else:
                self.prepared.put(one)

    def _convert(self, base: str) -> None:
        if bases.unconverted_weights(base, self.store.home):
            bases.folder_of(base, self.store.home)
            allocator.give_back_free_memory()

    def _run(self) -> None:
        while True:
            while not self.prepared.empty() or not (self.running or self.waiting):
                one = self.prepared.get()
                if one is None:
                    return
                if isinstance(one, Submitted):
                    self.waiting.append(one)
                else:
                    attempt(one)
            self.running = [state for state in self.running if not state.future.cancelled()]
            self.waiting = [one for one in self.waiting if not one.future.cancelled()]
            self._start_waiting()
            if self.running:
                self._pass()

    def _start_waiting(self) -> None:
        """Start requests, those of clients first, as long as there is memory for them and their bases.

        A group with a running request leaves as much memory free as it has: other clients need not wait for its end.
        """
        reserved = Counter[int]()
        for state in self.running:
            reserved[memory_group(state)] += state.reserved
        full = set()
        for one in sorted(self.waiting, key=lambda one: not one.interactive):
            group = memory_group(one)
            if group in full:
                continue
            after = reserved.total() + one.reserved
            if reserved[group] and after + reserved[group] + one.reserved > MAX_RESERVED:
                full.add(group)
                continue
            bases_in_use = {base for base, (_, loaded) in self.loaded.items() if self._is_in_use(loaded)} | {one.base}
            if self.running and (after > MAX_RESERVED or len(bases_in_use) > MAX_LOADED_BASES):
                return  # those after it wait too, or it would never start
            reserved[group] += one.reserved
            self.waiting.remove(one)
            try:
                self.running.append(self._start(one))
            except Exception as error:
                set_exception(one.future, error)

    def _is_in_use(self, loaded: LoadedModel) -> bool:
        return any(state.loaded is loaded for state in self.running)

    def _start(self, one: Submitted) -> RequestState:
        import torch

        request, self.started = one.request, self.started + 1
        base, adapter = base_and_adapter(self.store, request.model)
        loaded = self._load(base)
        loaded.switch_to(adapter)  # may empty `invariant_sizes`, if this adapter's products mix rows
        shares = loaded.has_segments and request.prompt_logprobs is None
        return RequestState(
            request=request,
            future=one.future,
            listener=one.listener,
            group=one.group,
            interactive=one.interactive,
            number=self.started,
            loaded=loaded,
            prompt_ids=one.prompt_ids,
            max_new_tokens=one.max_new_tokens,
            reserved=one.reserved,
            block=loaded.block,
            block_keys=block_keys((adapter, loaded.block), one.prompt_ids, loaded.block) if shares else [],
            cache=loaded.new_cache(),
            random=torch.Generator().manual_seed(request.seed),
            constraint=one.constraint,
            tool_format=one.tool_format,
            started_at=time.monotonic(),
            prompt_tokens=None if request.prompt_logprobs is None else [[]],
        )

    def _load(self, base: str) -> LoadedModel:
        """Return a base in memory. It is loaded again if its files have changed."""
        folder = bases.folder_of(base, self.store.home)
        stamp = stamp_of(folder)
        if base in self.loaded and self.loaded[base][0] != stamp:
            del self.loaded[base]
        if base not in self.loaded:
            while len(self.loaded) >= MAX_LOADED_BASES:
                del self.loaded[next(one for one, (_, it) in self.loaded.items() if not self._is_in_use(it))]
            self.loaded[base] = stamp, LoadedModel(folder)
        self.loaded.move_to_end(base)
        return self.loaded[base][1]

    def _drop_idle_bases(self) -> None:
        idle = [base for base, (_, loaded) in self.loaded.items() if not self._is_in_use(loaded)]
        for base in idle:
            del self.loaded[base]
        if idle:
            import torch

            gc.collect()
            torch.cuda.empty_cache()  # does nothing without CUDA
            allocator.give_back_free_memory()

    def _pass(self) -> None:
        """Compute a pass, or several at once, of the model whose requests have waited the longest."""
        self.passes += 1
        model = min(self.running, key=lambda state: state.last_pass).request.model
        taking_part = [state for state in self.running if state.request.model == model]
        try:
            # Looked up again: the model may have been deleted, or its files changed, since the last pass.
            base, adapter = base_and_adapter(self.store, model)
            if adapter:
                check_adapter(self.store, adapter, model)
            loaded = self._load(base)
            for state in taking_part:
                if state.loaded is not loaded:
                    changed = "The files of this model's base were replaced during the answer. Ask again."
                    set_exception(state.future, ApiError(503, changed, "model_changed", "model"))
            with one_thread():
                plans = plan_passes(loaded, [state for state in taking_part if not state.future.done()])
            taking_part = [state for plan in plans for state, _ in plan]
            for state in taking_part:
                state.last_pass = self.passes
            computed = loaded.compute(adapter, [[part for _, part in plan] for plan in plans])
            with one_thread():
                for plan, logits in zip(plans, computed, strict=True):
                    use(loaded, plan, logits)
        except Exception as error:
            for state in taking_part:
                set_exception(state.future, error)
        self.running = [state for state in self.running if not state.future.done()]


def attempt(work: Callable[[], object]) -> None:
    """Do something ahead of time. If it fails, the request or job that needs it fails too, and says why."""
    with suppress(Exception):
        work()


def memory_group(one: Submitted | RequestState) -> int:
    """Return what shares a part of the memory: the choices of a client's request, or all requests of batches."""
    return id(one.group) if one.interactive else 0
