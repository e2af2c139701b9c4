"""Make a tiny base: two layers and a small vocabulary, so that a fine-tune takes seconds.

Run it with: python tests/engine/tiny.py FOLDER
"""

import sys
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def make_tokenizer() -> Any:
    """Return a byte-level tokenizer with a chat template: the two tokens of ChatML, and one for each byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|im_end|>", "<|im_start|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", bos_token="<|im_start|>"
    )
    fast.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return fast


def make_tiny_base(
    folder: Path, heads: int = 4, shared_by: int = 2, width: int = 16, context: int = 1024, tokenizer: Any = None
) -> None:
    """Write a model with random weights of a fixed seed, a tokenizer (a byte-level one by default) and its template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width * heads,
        intermediate_size=2 * width * heads,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // shared_by,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)


SIZES: dict[str, Any] = {
    "vocab_size": 258, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.3, "eos_token_id": 0,
    "pad_token_id": 0, "bos_token_id": 1,
}  # fmt: skip
WINDOW = {"head_dim": 16, "sliding_window": 40}


def random_model(kind: str, **settings: Any) -> Any:
    """Return a model of a kind of Transformers, of four layers with random weights, for the tiny base's tokenizer."""
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(**SIZES | settings)
    name = "Gemma3ForCausalLM" if kind == "Gemma3Text" else f"{kind}ForCausalLM"
    model = getattr(transformers, name, None) or getattr(transformers, f"{kind}LMHeadModel")
    torch.manual_seed(0)
    return model(config).eval()


if __name__ == "__main__":
    make_tiny_base(Path(sys.argv[1]))
