"""A base in memory, with the adapters that were asked for so far and the openings of conversations that it has read."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.engine import bases
from finetune.engine.inference.batch_invariance import SIZES, exact_sizes

ROWS = 48  # of a step at most
PROMPT_TOKENS = SIZES[-1]  # of prompts that are computed side by side, at most
MOST_THREADS = 8
KEPT_OPENINGS = 8  # the least recently used one is dropped when another is wanted


class Loaded:
    """A causal language model of Transformers and its tokenizer; `sizes` are the rows that a matrix product may have.

    Without any, on cards and where a processor's products mix rows, each request must run alone.
    """

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
        # The last position of each row is no contiguous slice; for such, PyTorch may copy the vocabulary row by row.
        self.bare.get_output_embeddings().register_forward_pre_hook(
            lambda module, inputs: (filled(inputs[0], self.fitting(len(inputs[0]))),)
        )
        # Padding behind an opening would push it out of a window that slides.
        self.windowed = bool(getattr(self.bare.config.get_text_config(), "sliding_window", None))
        self.longest = self.bare.config.max_position_embeddings
        ends = self.bare.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self.probed: set[tuple[int, ...]] = set()
        self.sizes = set(SIZES) if device == "cpu" else set()
        self.look_at_shapes()
        self.adapters: dict[Path, str] = {}
        self.openings: OrderedDict[tuple[Path | None, tuple[int, ...]], Any] = OrderedDict()

    def look_at_shapes(self) -> None:
        """Leave in `sizes` what holds for the shapes of all weights; none where rows mix in the largest ones."""
        import torch

        head = self.bare.get_output_embeddings()
        for module in self.bare.modules():
            shape = tuple(module.weight.shape) if isinstance(module, torch.nn.Linear) else None
            if shape is None or shape in self.probed or not self.sizes:
                continue
            self.probed.add(shape)
            most = ROWS if module is head else PROMPT_TOKENS
            found = exact_sizes(module.weight, most)
            self.sizes = {size for size in self.sizes if size in found or size > most}
            if not {ROWS, PROMPT_TOKENS} <= self.sizes:
                self.sizes = set()

    def fitting(self, rows: int, each: int = 1) -> int:
        """The fewest rows, of so many tokens each, that these fill to make a product of a size that may be."""
        return min((size // each for size in self.sizes if size % each == 0 and size // each >= rows), default=rows)

    @contextmanager
    def plain_attention(self) -> Iterator[None]:
        """Attend without the fused kernels until the block ends.

        These need less memory, but on a processor they give a row other bits at other places of a batch, in float32
        nearly always and in bfloat16 at times (PyTorch 2.13): they are for what is computed alone.
        """
        own = self.bare.config._attn_implementation
        self.bare.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.bare.set_attn_implementation(own)

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
        self.look_at_shapes()

    def read(self, adapter: Path | None, opening: tuple[int, ...]) -> None:
        """Compute an opening's keys and values, alone and in the base's own way to attend, if they are not there."""
        import torch
        from transformers import DynamicCache

        if (adapter, opening) not in self.openings:
            while len(self.openings) >= KEPT_OPENINGS:
                self.openings.popitem(last=False)
            cache = DynamicCache()
            if opening:
                ids = torch.tensor([opening], device=self.bare.device)
                self.switch_to(adapter)(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self.openings[adapter, opening] = cache
        self.openings.move_to_end((adapter, opening))

    def opened(self, adapter: Path | None, opening: tuple[int, ...], rows: int) -> Any:
        """A fresh cache that holds an opening that was read, for so many rows."""
        cache = copy.deepcopy(self.openings[adapter, opening])
        cache.batch_repeat_interleave(rows)
        return cache


def filled(rows: Any, size: int) -> Any:
    """A tensor (rows, …) filled to this many rows with copies of the first, and laid out anew."""
    import torch

    return torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])])
