"""Compute with Transformers what a model says of texts: no server, no client.

Reads pairs of a context and a continuation from standard input. Of each, prints the continuation's log-probability,
and whether each of its tokens is the most probable one.
"""

import json
import sys


def main() -> None:
    import torch
    from finetune.engine.bases import best_dtype
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, best_dtype())).eval()
    found = []
    for context, continuation in json.load(sys.stdin):
        first = len(tokenizer(context, add_special_tokens=False)["input_ids"])
        ids = tokenizer(context + continuation, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            scores = model(ids).logits[0].float().log_softmax(-1)[first - 1 : -1]
        tokens = ids[0, first:]
        found.append(
            {
                "logprob": scores[range(len(tokens)), tokens].sum().item(),
                "tokens": tokenizer.convert_ids_to_tokens(tokens),
                "is_greedy": bool((scores.argmax(-1) == tokens).all()),
            }
        )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
