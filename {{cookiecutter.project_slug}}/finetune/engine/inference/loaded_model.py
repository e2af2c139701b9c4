"""A base in memory with the adapters used so far, and the pass that computes tokens of many requests."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune.engine import bases
from finetune.engine.api_errors import JobError
from finetune.engine.devices import best_device
from finetune.engine.inference.adapter_fit import refuse_misfit
from finetune.engine.inference.batch_invariance import CANDIDATE_SIZES, batch_invariant_sizes
from finetune.engine.inference.end_tokens import end_token_ids_of
from finetune.engine.inference.packed_products import is_packed, pack_products, product_like
from finetune.engine.inference.row_cache import PrefixCache, RowCache
from finetune.engine.inference.segment_attention import Segment, groups_keep_bits, use_segments

if TYPE_CHECKING:
    import torch

# Tokens of all requests in one pass: the first of these numbers that is invariant. Intel's matrix unit AMX adds in one
# order for up to 32 rows, in another one for more, and for some layers in the first one again for 96 or 192.
PASS_TOKENS = (192, 160, 96, 64, 32)
PASSES_AT_ONCE = 2  # each with its share of the threads
MAX_LOGITS = 48  # places of one pass whose logits are computed
BLOCK = 16  # tokens of a prompt that are computed together
BLOCK_ALONE = 128  # the same where a pass has one block only
MAX_THREADS = 8
PROBE_TOKENS = 40  # to compare the pass with the base's own computation


class Part(NamedTuple):
    """Tokens of one request to compute in a pass: they follow `position` tokens that are in its cache.

    The logits are returned at the end of the last token, or with `all_logits` of each of them.
    """

    cache: Any  # a RowCache, or Transformers' cache where the base has no segments
    token_ids: Sequence[int]
    position: int
    wants_logits: bool = True
    all_logits: bool = False


class LoadedModel:
    """A causal language model of Transformers and its tokenizer.

    `invariant_sizes` are the numbers of rows that a matrix product may have for a row to get the same bits among any
    others. It is empty on GPUs, for mixtures of experts, and where a processor's products mix rows: then a pass has
    one part only. `has_segments` says whether requests can share a pass at all. `at_once` is how many passes can be
    computed at the same time: two, where products have the same bits with half of the `threads`. A pass has up to
    `max_tokens` tokens, and up to `max_logits` places whose logits are computed. `has_groups` says whether attention of
    several requests can be computed by one call.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.threads = min(MAX_THREADS, 1 << (torch.get_num_threads().bit_length() - 1))
        torch.set_num_threads(self.threads)
        dtype = getattr(torch, bases.best_dtype())
        device = best_device()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.base: Any = model.eval()  # type: ignore[no-untyped-call]
        self.base.to(torch.device(device))
        self.model = self.base  # from the first adapter on, PEFT's model around it
        self.end_token_ids = end_token_ids_of(folder, self.tokenizer)
        self.adapters: dict[Path, str] = {}
        self.loads = 0  # of adapters, with those that failed
        self.prefixes = PrefixCache()
        self.tested_shapes: set[tuple[int, ...]] = set()
        self.invariant_sizes: set[int] = set()
        self.at_once = 1
        self.max_tokens = PASS_TOKENS[0]
        self.has_groups = False
        self.has_segments = self._switch_to_segments()
        if self.has_segments and device == "cpu" and not has_unknown_products(self.base):
            self._find_invariant_sizes()
        share = self.threads // self.at_once
        self.has_groups = bool(self.invariant_sizes) and groups_keep_bits(self.base)
        self.pool = ThreadPoolExecutor(self.at_once, initializer=use_threads, initargs=(share,))

    @property
    def block(self) -> int:
        return BLOCK if self.invariant_sizes else BLOCK_ALONE

    @property
    def max_logits(self) -> int:
        return min(MAX_LOGITS, self.max_tokens)

    def _switch_to_segments(self) -> bool:
        """Use attention by segments where it computes the same as the base does by itself; else Transformers' caches.

        Raises JobError for a base that computes something else with these, too.
        """
        import torch

        ids = torch.arange(PROBE_TOKENS, device=self.base.device) * 7 % self.base.config.get_text_config().vocab_size
        with torch.inference_mode():
            expected = self.base(input_ids=ids[None], use_cache=False).logits[0, -1].float().cpu()
        if self.base.device.type == "cpu":
            pack_products(self.base)
        own = self.base.config._attn_implementation
        for self.has_segments in (True, False):
            if self.has_segments and not use_segments(self.base):
                continue
            cache = self.new_cache()
            for start in range(0, PROBE_TOKENS, BLOCK):
                part = Part(cache, ids[start : start + BLOCK].tolist(), start)
                found = self.compute(None, [[part]])[0][0][-1]
            # Not "less": a base whose logits are no numbers is not another kind, and its answers say what is wrong.
            if not float((found - expected).norm()) > 0.05 * float(expected.norm()):
                return self.has_segments
            self.base.set_attn_implementation(own)
        what = f"This server cannot generate with bases of the kind {self.base.config.model_type!r}."
        raise JobError("model_not_supported", what, "model")

    def _find_invariant_sizes(self) -> None:
        """Choose the largest passes whose products have invariant sizes; none, if all fail."""
        for self.max_tokens in PASS_TOKENS:
            self.tested_shapes = set()
            self.invariant_sizes = {size for size in CANDIDATE_SIZES if size <= self.max_tokens}
            self.at_once = PASSES_AT_ONCE if self.threads >= PASSES_AT_ONCE else 1
            self._test_new_shapes()
            if self.invariant_sizes:
                return
        self.at_once = 1

    def _test_new_shapes(self) -> None:
        """Remove from `invariant_sizes` what fails for a shape of weights; all of them if the largest sizes fail.

        If these fail only with fewer threads, there is one pass at a time from now on.
        """
        import torch
        from transformers.pytorch_utils import Conv1D

        head = self.base.get_output_embeddings()
        for module in self.base.modules():
            if not isinstance(module, (torch.nn.Linear, Conv1D)) or not self.invariant_sizes:
                continue
            weight = module.weight.T if isinstance(module, Conv1D) else module.weight
            if (shape := (*weight.shape, module.bias is None, is_packed(module))) in self.tested_shapes:
                continue
            self.tested_shapes.add(shape)
            max_rows = self.max_logits if module is head else self.max_tokens
            largest = {self.max_logits, self.max_tokens}
            sizes_of = partial(batch_invariant_sizes, partial(product_like, module), weight, max_rows)
            passed = sizes_of({self.threads, self.threads // self.at_once})
            if self.at_once > 1 and not largest <= passed | {self.max_tokens} - {max_rows}:
                self.at_once = 1
                passed = sizes_of({self.threads})
            self.invariant_sizes = {size for size in self.invariant_sizes if size in passed or size > max_rows}
            if not largest <= self.invariant_sizes:
                self.invariant_sizes = set()

    def padded_size(self, rows: int) -> int:
        """Return the least invariant size that is at least `rows`; `rows` itself if there is none."""
        return min((size for size in self.invariant_sizes if size >= rows), default=rows)

    def new_cache(self) -> Any:
        """Return an empty cache for one request."""
        from transformers import DynamicCache

        return RowCache() if self.has_segments else DynamicCache(config=self.base.config)

    def compute(self, adapter: Path | None, passes: Sequence[Sequence[Part]]) -> "list[list[torch.Tensor]]":
        """Compute the parts of up to `at_once` passes, and return the logits of each, by pass.

        Logits are (places, vocabulary) in float32 on the processor. Without `has_segments` there must be one part.
        """
        import torch

        model = self.switch_to(adapter)
        if len(passes) > 1:
            return list(self.pool.map(partial(self._pass, model), passes))
        torch.set_num_threads(self.threads)  # MKL has one number for all threads
        return [self._pass(model, parts) for parts in passes]

    def _pass(self, model: Any, parts: Sequence[Part]) -> "list[torch.Tensor]":
        import torch

        with torch.inference_mode():
            if self.has_segments:
                return self._pass_by_segments(model, parts)
            (part,) = parts
            output = model(
                input_ids=torch.tensor([part.token_ids], device=self.base.device),
                past_key_values=part.cache,
                use_cache=True,
                logits_to_keep=0 if part.all_logits else 1,
            )
            return [output.logits[0].float().cpu()]

    def _pass_by_segments(self, model: Any, parts: Sequence[Part]) -> "list[torch.Tensor]":
        import torch

        segments: list[Segment] = []
        ids: list[int] = []
        positions: list[int] = []
        places: list[int] = []  # of the logits
        counts: list[int] = []  # of the logits of each part
        order = sorted(range(len(parts)), key=lambda one: (parts[one].position, len(parts[one].token_ids)))
        for part in (parts[one] for one in order):
            start, count = len(ids), len(part.token_ids)
            segment = Segment([part.cache], start, part.position, count)
            if self.has_groups and segments and segments[-1][2:] == segment[2:]:
                before = segments.pop()
                segment = before._replace(caches=[*before.caches, part.cache])
            segments.append(segment)
            ids += part.token_ids
            positions += range(part.position, part.position + count)
            wanted = count if part.all_logits else int(part.wants_logits)
            places += range(start + count - wanted, start + count)
            counts.append(wanted)
        padding = self.padded_size(len(ids)) - len(ids)
        # At least one place: Transformers takes an empty list of them for all.
        kept = places + places[:1] * (self.padded_size(len(places)) - len(places)) if places else [0]
        device = self.base.device
        output = model(
            input_ids=torch.tensor([ids + ids[:1] * padding], device=device),
            position_ids=torch.tensor([positions + [0] * padding], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(kept, device=device),
            segments=segments,
        )
        logits = output.logits[0, : len(places)].float().cpu().split(counts)
        return [logits[order.index(one)] for one in range(len(parts))]

    def switch_to(self, adapter: Path | None) -> Any:
        """Return the model with this adapter, or without any; an adapter is loaded at its first use."""
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

        refuse_misfit(self.base, adapter)
        # Never a name twice: after an error, PEFT would load the next adapter with the settings of the one that failed.
        name, self.loads = f"adapter{self.loads}", self.loads + 1
        settings: dict[str, Any] = {"adapter_name": name, "autocast_adapter_dtype": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT uses an old name in Transformers
            if self.adapters:
                self.model.load_adapter(adapter, **settings)
            else:
                self.model = PeftModel.from_pretrained(self.model, adapter, **settings)
        self.model.eval()
        self.adapters[adapter] = name
        self._test_new_shapes()


def import_libraries() -> None:
    """Import what a `LoadedModel` needs, which takes seconds."""
    import peft  # noqa: F401  # it imports torch, and most of Transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def use_threads(count: int) -> None:
    """Compute with `count` threads in the thread that calls this, whatever others set later."""
    import torch

    torch.get_num_threads()  # a thread's first use of PyTorch sets its number to the one that was last set anywhere
    torch.set_num_threads(count)


def has_unknown_products(base: Any) -> bool:
    """Return whether a base has products that `batch_invariance` cannot test, such as those of experts."""
    import torch
    from transformers.pytorch_utils import Conv1D

    known = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
    others = (module for module in base.modules() if not isinstance(module, known))
    return any(parameter.ndim > 1 for module in others for parameter in module.parameters(recurse=False))
