"""Attention for a pass that holds tokens of many requests: each request attends to its own tokens only.

A pass has the tokens of all requests in one row, so its matrix products are few and large. Attention is computed
apart for each segment of it, by the base's own function and over the request's own keys and values, so its bits depend
on no other request.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from finetune.engine.inference.row_cache import RowCache


class Segment(NamedTuple):
    """Adjacent tokens of one request in a pass, at `start` of the pass and at `position` of the request."""

    cache: "RowCache"
    start: int
    position: int
    tokens: int


def attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: None,
    *,
    own: Callable[..., Any],
    segments: Sequence[Segment],
    sliding_window: int | None = None,
    **settings: Any,
) -> "tuple[torch.Tensor, None]":
    """Return the attention of each segment (1, tokens, heads, width). Tokens of no segment get zeros: they are padding.

    `query`, `key` and `value` are (1, heads, tokens, width) of the whole pass; `own` computes the attention of one
    segment. The other parameters are those that Transformers gives to its attention functions.
    """
    import torch

    outputs = []
    with one_thread():
        for cache, start, position, tokens in segments:
            place = slice(start, start + tokens)
            keys, values = cache.append(module.layer_idx, key[:, :, place], value[:, :, place], position)
            mask = None
            if tokens > 1:
                mask = mask_of(tokens, position, sliding_window, query.dtype, query.device)
            elif sliding_window:
                keys, values = keys[:, :, -sliding_window:], values[:, :, -sliding_window:]
            more = {**settings, "sliding_window": sliding_window, "is_causal": False}
            outputs.append(own(module, query[:, :, place], keys, values, mask, **more)[0])
    if padding := query.shape[2] - sum(segment.tokens for segment in segments):
        outputs.append(outputs[0].new_zeros(1, padding, *outputs[0].shape[2:]))
    return torch.cat(outputs, dim=1), None


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: the operations are so small that waking another one takes longer than they do."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def own_sdpa(
    module: Any, query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", mask: Any, **settings: Any
) -> Any:
    """Compute attention as Transformers does with PyTorch's fused function.

    For one token, the heads that share keys and values are the rows of one product: four times as fast.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    heads, shared = query.shape[1], key.shape[1]
    if query.shape[2] > 1 or heads == shared or settings.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, mask, **settings)
    packed = query.reshape(1, shared, heads // shared, query.shape[3])
    found = torch.nn.functional.scaled_dot_product_attention(packed, key, value, scale=settings.get("scaling"))
    return found.reshape(1, 1, heads, value.shape[3]), None


def own_eager(module: Any, *arguments: Any, **settings: Any) -> Any:
    """Compute attention by the function in the base's own module, which has what fused functions lack."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *arguments, **settings)


@lru_cache(maxsize=1024)
def mask_of(
    tokens: int, position: int, sliding_window: int | None, dtype: "torch.dtype", device: "torch.device"
) -> "torch.Tensor":
    """Return what is added to the scores of a segment (1, 1, tokens, position + tokens): 0, or the lowest number.

    Each token sees itself and those before it, with a sliding window the last `sliding_window` of these.
    """
    import torch

    queries = torch.arange(position, position + tokens, device=device)[:, None]
    keys = torch.arange(position + tokens, device=device)[None, :]
    visible = keys <= queries
    if sliding_window:
        visible &= keys > queries - sliding_window
    mask = torch.zeros(tokens, position + tokens, dtype=dtype, device=device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[None, None]


def use_segments(model: Any) -> bool:
    """Switch a base to `attend`. Returns False for a base whose layers keep another kind of state."""
    from transformers import AttentionInterface

    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
    if not model._supports_attention_backend or not kinds <= {"full_attention", "sliding_attention"}:
        return False
    own = {"sdpa": own_sdpa, "eager": own_eager}.get(kind := model.config._attn_implementation)
    if own is None:
        return False
    AttentionInterface.register(f"segments_{kind}", partial(attend, own=own))
    model.set_attn_implementation(f"segments_{kind}")
    return True
