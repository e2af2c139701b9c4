"""The shortcuts of training change no result: packed rows and kept layers against each example alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from finetune.engine.training.encoding import IGNORED, Encoded
from finetune.engine.training.frozen_layers import Corpus, Trunk, pack, shared_prefix
from finetune.engine.training.trainer import lora

SYSTEM = [1, 5, 6, 7, 8]


def example(*own: int, trained: int = 2) -> Encoded:
    ids = [*SYSTEM, *own]
    return Encoded(ids, [IGNORED] * (len(ids) - trained) + ids[-trained:])


EXAMPLES = [
    example(20, 21, 22, 23),
    example(30, 31, 32),
    example(*range(40, 70)),
    example(20, 22, 24, 26, 28, trained=3),
]


@pytest.fixture
def trunk(home: Path) -> Trunk:
    torch.manual_seed(0)
    base: Any = AutoModelForCausalLM.from_pretrained(home / "bases" / "tiny", dtype=torch.float32)
    model: Any = get_peft_model(base, lora(base, 1))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zero as it begins, which would hide the adapter
            torch.nn.init.normal_(weight, std=0.1)
    return Trunk(model.get_base_model(), 1, EXAMPLES)


def alone(trunk: Trunk) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of the labelled positions, each example in a pass of its own through the whole model."""
    logits, targets = [], []
    for one in EXAMPLES:
        labels = torch.tensor(one.labels[1:])
        output = trunk.model(input_ids=torch.tensor([one.input_ids])).logits[0, :-1]
        logits.append(output[labels != IGNORED])
        targets.append(labels[labels != IGNORED])
    return torch.cat(logits), torch.cat(targets)


def gradients(trunk: Trunk, logits: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    trunk.model.zero_grad()
    torch.nn.functional.cross_entropy(logits, targets).backward()
    return [weight.grad.clone() for weight in trunk.model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("row", [1024, 24, 0], ids=["one row", "two rows", "a row each"])
def test_packed_examples_learn_as_if_each_were_alone(trunk: Trunk, row: int) -> None:
    assert trunk.works
    corpus = Corpus(trunk, EXAMPLES)
    corpus.row = row
    assert corpus.shared == len(SYSTEM)
    assert corpus.hidden is not None
    batch = corpus.batch(range(len(EXAMPLES)))
    assert len(batch["input_ids"]) == {1024: 1, 24: 3, 0: 4}[row]
    logits, targets = trunk.labelled_logits(batch)
    expected, expected_targets = alone(trunk)
    assert targets.tolist() == expected_targets.tolist()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    pairs = zip(gradients(trunk, logits, targets), gradients(trunk, expected, expected_targets), strict=True)
    for ours, plain in pairs:
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)


def test_what_is_shared_ends_before_the_first_position_that_learns() -> None:
    same = [Encoded([1, 2, 3, 4], [IGNORED, IGNORED, 3, 4])] * 2
    assert shared_prefix(same) == 1
    assert pack(same, 1, 1024)["labels"].tolist() == [[IGNORED, 3, 4, 3, 4]]
    assert shared_prefix([example(9, 9), Encoded([2, 3, 4], [IGNORED, 3, 4])]) == 0


def test_a_model_that_scales_on_the_way_is_not_cut(trunk: Trunk) -> None:
    plain = trunk.model.forward
    trunk.model.forward = lambda **inputs: type("Output", (), {"logits": plain(**inputs).logits * 3})()
    whole = Trunk(trunk.model, 1, EXAMPLES)
    assert not whole.works
    corpus = Corpus(whole, EXAMPLES)
    assert corpus.hidden is None
    logits, targets = whole.labelled_logits(corpus.batch([0, 1, 2, 3]))
    expected, expected_targets = alone(whole)
    assert targets.tolist() == expected_targets.tolist()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_deep_base_in_bfloat16_is_cut_although_its_logits_are_rounded_otherwise() -> None:
    """Number by number they differ by more than a hundredth, and no job on a real base would have its shortcuts."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(vocab_size=256, num_hidden_layers=24, initializer_range=0.2, **sizes)
    deep: Any = LlamaForCausalLM(config)
    assert Trunk(deep.to(torch.bfloat16), 21, [example(*range(20 + n, 60), trained=20) for n in (0, 5)]).works
