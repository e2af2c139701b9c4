"""A base in memory, with the adapters used so far and the cached prefixes of conversations."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.engine import bases
from finetune.engine.inference.batch_invariance import CANDIDATE_SIZES, batch_invariant_sizes

if TYPE_CHECKING:
    import torch

MAX_BATCH_ROWS = 48  # of one decoding step
MAX_PREFILL_TOKENS = CANDIDATE_SIZES[-1]  # of the prompts that are computed in one pass
MAX_THREADS = 8
MAX_CACHED_PREFIXES = 8  # above it, the least recently used one is dropped


class LoadedModel:
    """A causal language model of Transformers and its tokenizer.

    `invariant_sizes` are the numbers of rows that a matrix product may have for a row to get the same bits among any
    others. It is empty on GPUs, and where a processor's products mix rows: then each request runs alone.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_num_threads(min(MAX_THREADS, 1 << (torch.get_num_threads().bit_length() - 1)))
        dtype = getattr(torch, bases.best_dtype())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.base: Any = model.eval()  # type: ignore[no-untyped-call]
        self.base.to(torch.device(device))
        self.model = self.base  # from the first adapter on, PEFT's model around it
        # The last position of each row is not a contiguous slice; PyTorch may then copy the vocabulary for each row.
        self.base.get_output_embeddings().register_forward_pre_hook(
            lambda module, inputs: (
                (pad_rows(inputs[0], self.padded_size(len(inputs[0]))),) if inputs[0].shape[1] == 1 else None
            )
        )
        # Padding after a prefix would push the prefix out of a sliding window.
        self.has_sliding_window = bool(getattr(self.base.config.get_text_config(), "sliding_window", None))
        self.context_length = self.base.config.max_position_embeddings
        end_ids = self.base.generation_config.eos_token_id
        self.end_token_ids = {self.tokenizer.eos_token_id, *(end_ids if isinstance(end_ids, list) else [end_ids])}
        self.tested_shapes: set[tuple[int, ...]] = set()
        self.invariant_sizes = set(CANDIDATE_SIZES) if device == "cpu" else set()
        self._test_new_shapes()
        self.adapters: dict[Path, str] = {}
        self.prefix_caches: OrderedDict[tuple[Path | None, tuple[int, ...]], Any] = OrderedDict()

    def _test_new_shapes(self) -> None:
        """Remove from `invariant_sizes` what fails for a shape of weights; all of them if the largest sizes fail."""
        import torch

        head = self.base.get_output_embeddings()
        for module in self.base.modules():
            shape = tuple(module.weight.shape) if isinstance(module, torch.nn.Linear) else None
            if shape is None or shape in self.tested_shapes or not self.invariant_sizes:
                continue
            self.tested_shapes.add(shape)
            max_rows = MAX_BATCH_ROWS if module is head else MAX_PREFILL_TOKENS
            passed = batch_invariant_sizes(module.weight, max_rows)
            self.invariant_sizes = {size for size in self.invariant_sizes if size in passed or size > max_rows}
            if not {MAX_BATCH_ROWS, MAX_PREFILL_TOKENS} <= self.invariant_sizes:
                self.invariant_sizes = set()

    def padded_size(self, rows: int, tokens: int = 1) -> int:
        """Return the least number of rows, at least `rows`, that makes an invariant size with `tokens` tokens a row."""
        sizes = (size // tokens for size in self.invariant_sizes if size % tokens == 0)
        return min((size for size in sizes if size >= rows), default=rows)

    @contextmanager
    def eager_attention(self) -> Iterator[None]:
        """Use attention without fused kernels while the block runs.

        Fused kernels need less memory, but on a processor they give a row different bits at different places of a
        batch, in float32 nearly always and in bfloat16 at times (PyTorch 2.13): they are used for requests alone.
        """
        own = self.base.config._attn_implementation
        self.base.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.base.set_attn_implementation(own)

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

        name = f"adapter{len(self.adapters)}"
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

    def cache_prefix(self, adapter: Path | None, prefix_ids: tuple[int, ...]) -> None:
        """Compute the keys and values of a prefix, alone and with the base's own attention, unless they are cached."""
        import torch
        from transformers import DynamicCache

        if (adapter, prefix_ids) not in self.prefix_caches:
            while len(self.prefix_caches) >= MAX_CACHED_PREFIXES:
                self.prefix_caches.popitem(last=False)
            cache = DynamicCache()
            if prefix_ids:
                ids = torch.tensor([prefix_ids], device=self.base.device)
                self.switch_to(adapter)(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self.prefix_caches[adapter, prefix_ids] = cache
        self.prefix_caches.move_to_end((adapter, prefix_ids))

    def copy_of_prefix(self, adapter: Path | None, prefix_ids: tuple[int, ...], rows: int) -> Any:
        """Return a new cache that holds a cached prefix in each of `rows` rows."""
        cache = copy.deepcopy(self.prefix_caches[adapter, prefix_ids])
        cache.batch_repeat_interleave(rows)
        return cache


def pad_rows(rows: "torch.Tensor", size: int) -> "torch.Tensor":
    """Return a contiguous copy of a tensor (rows, …), padded to `size` rows with copies of the first row."""
    import torch

    return torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])])
