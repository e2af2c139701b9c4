"""Compute a prompt with the log-probability of each of its tokens, as vLLM reports them under `prompt_logprobs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.engine.inference.generation_types import PromptToken, RequestState
from finetune.engine.inference.loaded_model import MAX_PREFILL_TOKENS, LoadedModel

if TYPE_CHECKING:
    import torch

LOWEST = -9999.0  # in place of minus infinity, which JSON does not have; vLLM's value


def prefill_scored(loaded: LoadedModel, adapter: Path | None, state: RequestState) -> "tuple[torch.Tensor, Any, Any]":
    """Compute the prompt of one request, and set its `prompt_tokens`.

    Returns what `prefill` does: the logits at the prompt's end, the attention mask, and the cache to decode with. The
    prompt is computed in parts of at most MAX_PREFILL_TOKENS, so that no logits of a whole long prompt are in memory.
    """
    import torch

    count = state.request.prompt_logprobs or 0
    model, ids = loaded.switch_to(adapter), torch.tensor([state.suffix_ids], device=loaded.base.device)
    places: list[list[PromptToken]] = [[]]
    cache: Any = None
    for start in range(0, ids.shape[1], MAX_PREFILL_TOKENS):
        output = model(input_ids=ids[:, start : start + MAX_PREFILL_TOKENS], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        following = state.suffix_ids[start + 1 : start + 1 + MAX_PREFILL_TOKENS]
        places += scored_tokens(loaded.tokenizer, output.logits[0, : len(following)], following, count)
    state.prompt_tokens = places
    return output.logits[:, -1], torch.ones_like(ids), cache


def scored_tokens(tokenizer: Any, logits: "torch.Tensor", token_ids: list[int], count: int) -> list[list[PromptToken]]:
    """Return each token with its log-probability by the logits (tokens, vocabulary), and the `count` likeliest ones.

    The rank of a token is the number of tokens that are at least as likely.
    """
    import torch

    if not token_ids:
        return []
    log_probabilities = logits.float().log_softmax(-1)
    chosen = torch.tensor(token_ids, device=logits.device)[:, None]
    own = log_probabilities.gather(1, chosen)
    ranks = (log_probabilities >= own).sum(1, keepdim=True)
    top = log_probabilities.topk(count)
    numbers = torch.arange(1, count + 1, device=logits.device).expand(len(token_ids), count)
    columns = [torch.cat(pair, dim=1).tolist() for pair in ((chosen, top.indices), (own, top.values), (ranks, numbers))]
    return [
        [
            PromptToken(token, tokenizer.decode([token]), max(LOWEST, round(logprob, 6)), rank)
            for place, (token, logprob, rank) in enumerate(zip(*row, strict=True))
            if place == 0 or token != row[0][0]
        ]
        for row in zip(*columns, strict=True)
    ]
