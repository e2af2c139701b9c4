"""Generate for requests that share a batch: prefill their prompts, then decode a token a step for each."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.engine.inference.batch_invariance import CANDIDATE_SIZES
from finetune.engine.inference.generation_types import RequestState
from finetune.engine.inference.loaded_model import MAX_PREFILL_TOKENS, LoadedModel, pad_rows
from finetune.engine.inference.prompt_scores import prefill_scored
from finetune.engine.inference.sampling import add_token

if TYPE_CHECKING:
    import torch

# Tokens that prompts are padded to: the product of one such prompt has an invariant size, and so has that of several.
PREFILL_LENGTHS = CANDIDATE_SIZES[2:]


def decode_length(state: RequestState) -> int:
    """Return what a prompt's suffix is padded to for decoding: MAX_PREFILL_TOKENS, or twice it, or twice that, …"""
    length = MAX_PREFILL_TOKENS
    while length <= len(state.suffix_ids):
        length *= 2
    return length


def prefill_length(state: RequestState) -> int:
    """Return what a prompt's suffix is padded to for prefilling.

    At least one token of padding: without any, Transformers takes another code path for attention.
    """
    return next((length for length in PREFILL_LENGTHS if length > len(state.suffix_ids)), decode_length(state))


def generate(loaded: LoadedModel, adapter: Path | None, states: list[RequestState], batched: bool) -> None:
    """Generate for requests of one prefix and one `decode_length`, and resolve the future of each when it ends.

    If not `batched`, there is one request, which needs no padding.
    """
    import torch

    for state in states:
        state.started_at = time.monotonic()
    model, device = loaded.switch_to(adapter), loaded.base.device
    with torch.inference_mode():
        loaded.cache_prefix(adapter, states[0].prefix_ids)
    with torch.inference_mode(), loaded.eager_attention() if batched else nullcontext():
        if states[0].request.prompt_logprobs is None:
            logits, mask, cache = prefill(loaded, adapter, states, batched)
        else:
            logits, mask, cache = prefill_scored(loaded, adapter, states[0])
        while True:
            for state, row_logits in zip(states, logits.float().cpu(), strict=False):  # more rows are padding
                if state.finish_reason is None:
                    add_token(loaded, state, row_logits)
            active = [row for row, state in enumerate(states) if state.finish_reason is None]
            if not active:
                return
            size = loaded.padded_size(len(active)) if batched else 1
            if size < len(mask):
                states, rows = [states[row] for row in active], pad_rows(torch.tensor(active, device=device), size)
                mask = mask[rows]
                cache.batch_select_indices(rows)
            mask = torch.cat([mask, mask.new_ones(size, 1)], dim=1)
            last_ids = torch.tensor([state.generated_ids[-1:] or [0] for state in states], device=device)
            output = model(
                input_ids=pad_rows(last_ids, size),
                attention_mask=mask,
                # Rows of ended requests go on with the others, but not beyond the base's last position.
                position_ids=(mask.sum(1, keepdim=True) - 1).clamp(max=loaded.context_length - 1),
                past_key_values=cache,
                use_cache=True,
            )
            logits = output.logits[:, -1]


def prefill(
    loaded: LoadedModel, adapter: Path | None, states: list[RequestState], batched: bool
) -> "tuple[torch.Tensor, torch.Tensor, Any]":
    """Compute the prompts of a batch.

    Returns the logits at their ends (requests, vocabulary), the attention mask (rows, length), and the cache to decode
    with; rows beyond the requests are padding.
    """
    import torch

    from finetune.engine.inference.kv_cache import preallocated_cache

    by_length: dict[int, list[int]] = {}
    for row, state in enumerate(states):
        by_length.setdefault(prefill_length(state) if batched else len(state.suffix_ids), []).append(row)
    length = len(states[0].prefix_ids) + (decode_length(states[0]) if batched else len(states[0].suffix_ids))
    capacity = length + max(state.max_new_tokens for state in states)
    size = loaded.padded_size(len(states)) if batched else 1
    mask = torch.zeros(size, length, dtype=torch.long, device=loaded.base.device)
    logits: list[torch.Tensor] = [torch.empty(0)] * len(states)
    cache: Any = None
    for suffix_length, rows_of_length in by_length.items():
        rows_a_pass = max(1, MAX_PREFILL_TOKENS // suffix_length)
        for first in range(0, len(rows_of_length), rows_a_pass):
            rows = rows_of_length[first : first + rows_a_pass]
            output, row_masks = prefill_rows(loaded, adapter, [states[row] for row in rows], suffix_length, batched)
            if cache is None:
                cache = preallocated_cache(output.past_key_values, size, length, capacity)
            for layer, computed in zip(cache.layers, output.past_key_values.layers, strict=True):
                layer.keys[rows, :, -computed.keys.shape[2] :] = computed.keys[: len(rows)]
                layer.values[rows, :, -computed.values.shape[2] :] = computed.values[: len(rows)]
            mask[rows, -row_masks.shape[1] :] = row_masks[: len(rows)]
            for row, last_logits in zip(rows, output.logits[:, -1], strict=False):
                logits[row] = last_logits
    mask[len(states) :] = mask[0]
    return torch.stack(logits), mask, cache


def prefill_rows(
    loaded: LoadedModel, adapter: Path | None, states: list[RequestState], suffix_length: int, batched: bool
) -> "tuple[Any, torch.Tensor]":
    """Compute prompts whose suffixes are padded to one length, in one pass.

    Returns the model's output and the attention mask; rows beyond the requests are copies of the first.
    """
    import torch

    prefix_ids, device = states[0].prefix_ids, loaded.base.device
    size = loaded.padded_size(len(states), suffix_length) if batched else 1
    ids = torch.full((len(states), suffix_length), loaded.tokenizer.eos_token_id)
    mask = torch.ones(len(states), len(prefix_ids) + suffix_length, dtype=torch.long)
    for row, state in enumerate(states):
        padding = suffix_length - len(state.suffix_ids)
        ids[row, padding:] = torch.tensor(state.suffix_ids)
        mask[row, len(prefix_ids) : len(prefix_ids) + padding] = 0
    mask = pad_rows(mask, size).to(device)
    output = loaded.switch_to(adapter)(
        input_ids=pad_rows(ids, size).to(device),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, len(prefix_ids) :],
        past_key_values=loaded.copy_of_prefix(adapter, prefix_ids, size),
        use_cache=True,
        logits_to_keep=1,
    )
    return output, mask
