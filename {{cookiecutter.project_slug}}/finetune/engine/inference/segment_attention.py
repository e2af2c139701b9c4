"""Attention for a pass that holds tokens of many requests: each request attends to its own tokens only.

A pass has the tokens of all requests in one row, so its matrix products are few and large. Attention is computed by
the base's own function, over each request's own keys and values. Requests with equally many tokens at the same position
are computed by one call, where `groups_keep_bits` found that its bits are those of a call for each of them.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from finetune.engine.inference.row_cache import RowCache

# What `groups_keep_bits` tries: tokens and positions of blocks and of single tokens, and numbers of requests.
GROUP_SHAPES = ((16, 0), (16, 48), (5, 64), (3, 512), (1, 71), (1, 640))
GROUP_SIZES = (2, 5, 12, 48)


class Segment(NamedTuple):
    """Adjacent tokens in a pass, from `start` on: `tokens` of each request of `caches`, at `position` of the request.

    Segments of a pass are in the order of their positions: a request attends to its own tokens before these, too.
    """

    caches: "Sequence[RowCache]"
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
    """Return the attention of all tokens (1, tokens, heads, width). Those of no segment get zeros: they are padding.

    `query`, `key` and `value` are (1, heads, tokens, width) of the whole pass; `own` computes the attention of one
    segment. The other parameters are those that Transformers gives to its attention functions.
    """
    import torch

    outputs = []
    more = {**settings, "sliding_window": sliding_window, "is_causal": False}
    with one_thread():
        both = torch.cat((key, value), dim=-1)  # so that a request has one copy to make, not two
        for caches, start, position, tokens in segments:
            # Each (requests, heads, tokens, width).
            queries = query.narrow(2, start, len(caches) * tokens)
            own_states = [
                cache.append(module.layer_idx, both.narrow(2, start + number * tokens, tokens), position)
                for number, cache in enumerate(caches)
            ]
            if len(caches) > 1:
                queries = queries[0].reshape(query.shape[1], len(caches), tokens, -1).transpose(0, 1)
                own_states = [torch.cat(own_states)]
            keys, values = torch.split(own_states[0], [key.shape[3], value.shape[3]], dim=-1)
            mask = None
            if tokens > 1:
                mask = mask_of(tokens, position, sliding_window, query.dtype, query.device)
            elif sliding_window:
                keys, values = keys[:, :, -sliding_window:], values[:, :, -sliding_window:]
            output = own(module, queries, keys, values, mask, **more)[0]
            outputs.append(output.reshape(1, -1, *output.shape[2:]))
    if padding := query.shape[2] - sum(len(segment.caches) * segment.tokens for segment in segments):
        outputs.append(outputs[0].new_zeros(1, padding, *outputs[0].shape[2:]))
    return torch.cat(outputs, dim=1), None


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: the operations are so small that waking another one takes longer than they do.

    Attention of the same tokens may have other bits with more threads (in float32, it mostly has).
    """
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

    On a CPU, keys and values that several heads share are not copied for each of them, which gives the same bits. For
    one token, these heads are the rows of one product: four times as fast.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    requests, heads, tokens, width = query.shape
    shared, scale = key.shape[1], settings.get("scaling")
    is_plain = settings.get("position_bias") is None and settings.get("softcap") is None
    if heads == shared or not is_plain or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, mask, **settings)
    attention = torch.nn.functional.scaled_dot_product_attention
    if tokens > 1:
        return attention(query, key, value, mask, scale=scale, enable_gqa=True).transpose(1, 2), None
    found = attention(query.reshape(requests, shared, heads // shared, width), key, value, scale=scale)
    return found.reshape(requests, 1, heads, value.shape[3]), None


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


def groups_keep_bits(model: Any) -> bool:
    """Return whether attention gives requests the same bits in one call as in a call for each of them."""
    import torch

    config = model.config.get_text_config()
    if model.config._attn_implementation != "segments_sdpa":
        return False
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    random = torch.Generator().manual_seed(0)
    layer = SimpleNamespace(num_key_value_groups=heads // shared)

    def is_same(tokens: int, position: int, requests: int) -> bool:
        query, key, value = (
            torch.randn(requests, count, length, width, generator=random).to(model.dtype)
            for count, length in ((heads, tokens), (shared, position + tokens), (shared, position + tokens))
        )
        mask = mask_of(tokens, position, None, model.dtype, query.device) if tokens > 1 else None
        together = own_sdpa(layer, query, key, value, mask, is_causal=False)[0]
        alone = [
            own_sdpa(layer, query[one : one + 1], key[one : one + 1], value[one : one + 1], mask, is_causal=False)[0]
            for one in range(requests)
        ]
        return torch.equal(together, torch.cat(alone))

    with torch.inference_mode(), one_thread():
        return all(is_same(*shape, requests) for shape in GROUP_SHAPES for requests in GROUP_SIZES)
