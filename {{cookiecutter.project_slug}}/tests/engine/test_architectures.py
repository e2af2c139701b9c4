"""Bases of many architectures answer as Transformers' `generate` does, alone and beside others, or are refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import WINDOW, make_tiny_base, random_model

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.chat_template import render
from finetune.engine.conversation import Message
from finetune.engine.inference.generation_types import GenerationRequest
from finetune.engine.inference.generator import Generator
from finetune.engine.store import Store

OLD_SIZES = {"hidden_size": 64, "n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 1024}
# For each: its configuration, whether requests share a pass, and whether they share its matrix products.
KINDS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "Llama": ({}, True, True),
    "Qwen3": ({"head_dim": 16}, True, True),
    "SmolLM3": ({}, True, True),
    "GPTNeoX": ({}, True, True),
    "GPT2": (OLD_SIZES, True, True),  # its layers are no torch.nn.Linear
    "Mistral": (WINDOW, True, True),
    "Gemma2": (WINDOW, True, True),  # caps its scores, so it has no fused attention
    "Gemma3Text": (WINDOW, True, True),  # some of its layers have a window
    "GptOss": ({**WINDOW, "num_local_experts": 4}, True, False),  # has sinks, and experts
    "Mixtral": ({"num_local_experts": 4}, True, False),
    "Lfm2": ({"layer_types": ["conv", "full_attention"] * 2}, False, False),
    "Bloom": (OLD_SIZES, False, False),  # has biases in place of positions
}
QUICK = ("Llama", "Gemma3Text", "Lfm2")  # the common form, one with windows, and one that cannot be batched


@pytest.fixture(scope="module")
def generator(home: Path) -> Iterator[Generator]:
    found = Generator(Store(home))
    yield found
    found.close()


def make_base(kind: str, home: Path) -> Any:
    """Make a base with random weights, and return its model."""
    folder = home / "bases" / kind
    make_tiny_base(folder)
    made = random_model(kind, **(KINDS[kind][0] if kind in KINDS else {}))
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize("kind", [pytest.param(one, marks=[] if one in QUICK else [pytest.mark.slow]) for one in KINDS])
def test_a_base_answers_as_transformers_generate(
    generator: Generator, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Prompts shorter and longer than a block and a window."""
    import torch
    import transformers

    monkeypatch.setattr(bases, "best_dtype", lambda: "float32")
    model = make_base(kind, home)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(home / "bases" / kind)
    chats: list[list[Message]] = [[{"role": "user", "content": "x" * length}] for length in (3, 60, 250)]
    requests = [GenerationRequest(kind, chat, 8, 0, 1, 0, (), 1) for chat in chats]
    together = [generator.submit(request) for request in [*requests, *requests]]
    answers = [future.result(timeout=60) for future in together]
    assert answers[:3] == answers[3:] == [generator.submit(request).result(timeout=60) for request in requests]
    for chat, answer in zip(chats, answers, strict=False):
        ids = torch.tensor([render(tokenizer, chat, add_generation_prompt=True)])
        generated = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(generated, skip_special_tokens=True)
    loaded = generator.loaded[kind][1]
    assert (loaded.has_segments, bool(loaded.invariant_sizes)) == KINDS[kind][1:]


def test_a_base_that_keeps_its_state_in_another_way_is_refused(generator: Generator, home: Path) -> None:
    """Mamba takes no cache of Transformers' usual kind, and would answer from the last tokens alone."""
    make_base("Mamba", home)
    request = GenerationRequest("Mamba", [{"role": "user", "content": "a" * 60}], 8, 0, 1, 0, (), 1)
    with pytest.raises(ApiError, match="cannot generate with bases of the kind 'mamba'"):
        generator.submit(request).result(timeout=60)
