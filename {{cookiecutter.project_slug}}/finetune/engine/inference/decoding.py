"""Token by token, for requests that share a batch: their prompts, then a row of each step for each."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from finetune.engine.inference.batch_invariance import SIZES
from finetune.engine.inference.generation_types import Row
from finetune.engine.inference.loaded_model import PROMPT_TOKENS, Loaded, filled
from finetune.engine.inference.sampling import choose

LENGTHS = SIZES[2:]  # that prompts are padded to: one alone makes a product of such a size, and so do many


def kept_length(row: Row) -> int:
    """What a prompt's rest is padded to while its answer grows: PROMPT_TOKENS, or twice it, or twice that, …"""
    length = PROMPT_TOKENS
    while length <= len(row.rest):
        length *= 2
    return length


def computed_length(row: Row) -> int:
    """What it is padded to while it is read: at least one token more, for without any, attention takes another path."""
    return next((length for length in LENGTHS if length > len(row.rest)), kept_length(row))


def decode(loaded: Loaded, adapter: Path | None, rows: list[Row], together: bool) -> None:
    """Generate for rows that meet, and set each one's answer when it has ended; a row alone needs no padding."""
    import torch

    for row in rows:
        row.began = time.monotonic()
    model, device = loaded.switch_to(adapter), loaded.bare.device
    with torch.inference_mode():
        loaded.read(adapter, rows[0].opening)
    with torch.inference_mode(), loaded.plain_attention() if together else nullcontext():
        logits, mask, cache = read_prompts(loaded, adapter, rows, together)
        while True:
            for row, scores in zip(rows, logits.float().cpu(), strict=False):  # there may be more, which only fill
                if row.finish_reason is None:
                    choose(loaded, row, scores)
            going = [place for place, row in enumerate(rows) if row.finish_reason is None]
            if not going:
                return
            size = loaded.fitting(len(going)) if together else 1
            if size < len(mask):
                rows, places = [rows[place] for place in going], filled(torch.tensor(going, device=device), size)
                mask = mask[places]
                cache.batch_select_indices(places)
            mask = torch.cat([mask, mask.new_ones(size, 1)], dim=1)
            output = model(
                input_ids=filled(torch.tensor([row.made[-1:] or [0] for row in rows], device=device), size),
                attention_mask=mask,
                # A row that has ended goes on beside the others, but not over the base's last position.
                position_ids=(mask.sum(1, keepdim=True) - 1).clamp(max=loaded.longest - 1),
                past_key_values=cache,
                use_cache=True,
            )
            logits = output.logits[:, -1]


def read_prompts(loaded: Loaded, adapter: Path | None, rows: list[Row], together: bool) -> tuple[Any, Any, Any]:
    """Compute the prompts of rows that meet: the logits at their ends, their masks, and the cache to go on with."""
    import torch

    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_length.setdefault(computed_length(row) if together else len(row.rest), []).append(place)
    kept = len(rows[0].opening) + (kept_length(rows[0]) if together else len(rows[0].rest))
    room = kept + max(row.limit for row in rows)
    size = loaded.fitting(len(rows)) if together else 1
    mask = torch.zeros(size, kept, dtype=torch.long, device=loaded.bare.device)
    logits: list[Any] = [None] * len(rows)
    cache: Any = None
    for length, places in by_length.items():
        most = max(1, PROMPT_TOKENS // length)
        for first in range(0, len(places), most):
            some = places[first : first + most]
            output, seen = read_part(loaded, adapter, [rows[place] for place in some], length, together)
            cache = cache or roomy(output.past_key_values, size, kept, room)
            for layer, read in zip(cache.layers, output.past_key_values.layers, strict=True):
                layer.keys[some, :, -read.keys.shape[2] :] = read.keys[: len(some)]
                layer.values[some, :, -read.values.shape[2] :] = read.values[: len(some)]
            mask[some, -seen.shape[1] :] = seen[: len(some)]
            for place, ends in zip(some, output.logits[:, -1], strict=False):
                logits[place] = ends
    mask[len(rows) :] = mask[0]
    return torch.stack(logits), mask, cache


def read_part(loaded: Loaded, adapter: Path | None, rows: list[Row], length: int, together: bool) -> tuple[Any, Any]:
    """Compute prompts padded to one length: the model's output, and the mask, with copies of the first behind."""
    import torch

    opening, device = rows[0].opening, loaded.bare.device
    size = loaded.fitting(len(rows), length) if together else 1
    ids = torch.full((len(rows), length), loaded.tokenizer.eos_token_id)
    mask = torch.ones(len(rows), len(opening) + length, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, length - len(row.rest) :] = torch.tensor(row.rest)
        mask[index, len(opening) : len(opening) + length - len(row.rest)] = 0
    mask = filled(mask, size).to(device)
    output = loaded.switch_to(adapter)(
        input_ids=filled(ids, size).to(device),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, len(opening) :],
        past_key_values=loaded.opened(adapter, opening, size),
        use_cache=True,
        logits_to_keep=1,
    )
    return output, mask


def roomy(cache: Any, rows: int, length: int, room: int) -> Any:
    """A cache of zeros for so many rows, `length` tokens long, and with room, so that a step copies none of it."""
    from transformers.cache_utils import Cache, DynamicLayer

    class Layer(DynamicLayer):
        """`keys` and `values` are the filled part of the two `stores`, each (rows, heads, room, width)."""

        def __init__(self, like: Any) -> None:
            super().__init__()
            self.lazy_initialization(like.keys, like.values)
            shapes = [(part, (rows, part.shape[1], room, part.shape[3])) for part in (like.keys, like.values)]
            self.stores = [part.new_empty(shape) for part, shape in shapes]
            for store in self.stores:
                store[:, :, :length] = 0
            self.show(length)

        def show(self, length: int) -> None:
            self.length = length
            self.keys, self.values = (store[:, :, :length] for store in self.stores)

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
            end = self.length + key_states.shape[2]
            for store, more in zip(self.stores, (key_states, value_states), strict=True):
                store[:, :, self.length : end] = more
            self.show(end)
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            for index, store in enumerate(self.stores):
                chosen = store.new_empty(len(indices), *store.shape[1:])
                chosen[:, :, : self.length] = store[indices, :, : self.length]
                self.stores[index] = chosen
            self.show(self.length)

    return Cache(layers=[Layer(layer) for layer in cache.layers])
