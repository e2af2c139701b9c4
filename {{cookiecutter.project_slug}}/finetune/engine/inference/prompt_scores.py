"""The log-probability of each token of a prompt, as vLLM reports them under `prompt_logprobs`."""

from typing import TYPE_CHECKING, Any

from finetune.engine.inference.generation_types import PromptToken
from finetune.engine.inference.token_texts import text_after, token_bytes

if TYPE_CHECKING:
    import torch

LOWEST = -9999.0  # in place of minus infinity, which JSON does not have; vLLM's value


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
            PromptToken(
                token,
                text := text_after(tokenizer, [token]),
                max(LOWEST, round(logprob, 6)),
                rank,
                token_bytes(tokenizer, token, text),
            )
            for place, (token, logprob, rank) in enumerate(zip(*row, strict=True))
            if place == 0 or token != row[0][0]
        ]
        for row in zip(*columns, strict=True)
    ]
