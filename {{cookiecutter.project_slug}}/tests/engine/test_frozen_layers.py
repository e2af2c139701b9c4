"""Packed rows and precomputed hidden states give the results of each example computed alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from finetune.engine.training.base_model import lora_config
from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample
from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
from finetune.engine.training.hyperparameters import resolve, resolve_with_base
from finetune.engine.training.metrics import TokenMetrics
from finetune.engine.training.packing import LENGTHS, common_prefix_length, group_by_beginning, pack

SYSTEM = [1, 5, 6, 7, 8]


def example(*own: int, trained: int = 2) -> EncodedExample:
    ids = [*SYSTEM, *own]
    return EncodedExample(ids, [IGNORE_INDEX] * (len(ids) - trained) + ids[-trained:])


EXAMPLES = [
    example(20, 21, 22, 23),
    example(30, 31, 32),
    example(*range(40, 70)),
    example(20, 22, 24, 26, 28, trained=3),
]


def shape(layers: int) -> Any:
    return resolve(resolve_with_base({"lora_layers": layers}, 2, 1024), len(EXAMPLES))


@pytest.fixture
def split_model(home: Path) -> SplitModel:
    return split(home, 1)


def split(home: Path, layers: int) -> SplitModel:
    torch.manual_seed(0)
    base: Any = AutoModelForCausalLM.from_pretrained(home / "bases" / "tiny", dtype=torch.float32)
    model: Any = get_peft_model(base, lora_config(base, shape(layers)))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the adapter
            torch.nn.init.normal_(weight, std=0.1)
    return SplitModel(model.get_base_model(), 2 - layers, EXAMPLES)


def alone(split_model: SplitModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of the labelled positions, each example alone through the whole model."""
    logits, targets = [], []
    for one in EXAMPLES:
        labels = torch.tensor(one.labels[1:])
        output = split_model.model(input_ids=torch.tensor([one.input_ids])).logits[0, :-1]
        logits.append(output[labels != IGNORE_INDEX])
        targets.append(labels[labels != IGNORE_INDEX])
    return torch.cat(logits), torch.cat(targets)


def gradients(split_model: SplitModel, logits: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    split_model.model.zero_grad()
    torch.nn.functional.cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
    return [weight.grad.clone() for weight in split_model.model.parameters() if weight.grad is not None]


@pytest.fixture
def whole_adapter(home: Path) -> SplitModel:
    """A model with all layers adapted: nothing of it is frozen."""
    return split(home, 2)


@pytest.mark.parametrize("row_tokens", [1024, 24, 0], ids=["one row", "three rows", "a row each"])
def test_packed_examples_have_the_gradients_of_each_alone(split_model: SplitModel, row_tokens: int) -> None:
    assert split_model.can_split
    dataset = PrecomputedDataset(split_model, EXAMPLES)
    dataset.row_tokens = row_tokens
    assert dataset.prefix_lengths == [len(SYSTEM)] * len(EXAMPLES)
    assert dataset.hidden_states is not None
    batch = dataset.batch(range(len(EXAMPLES)))
    assert len(batch["input_ids"]) == {1024: 1, 24: 3, 0: 4}[row_tokens]
    logits, targets = split_model.labelled_logits(batch)
    expected, expected_targets = alone(split_model)
    assert targets.tolist() == expected_targets.tolist()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    packed_gradients = gradients(split_model, logits, targets)
    expected_gradients = gradients(split_model, expected, expected_targets)
    for actual, wanted in zip(packed_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-3, atol=1e-5)


def test_batches_computed_at_the_same_time_have_the_bits_of_each_alone_with_one_thread(
    split_model: SplitModel,
) -> None:
    dataset = PrecomputedDataset(split_model, EXAMPLES)
    dataset.hidden_states = None
    batches = [dataset.batch([0, 1]), dataset.batch([2]), dataset.batch([3, 0])]
    threads = torch.get_num_threads()
    found = split_model.run_frozen_layers_of(batches)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    expected = [split_model.run_frozen_layers(batch) for batch in batches]
    torch.set_num_threads(threads)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("row_tokens", [1024, 24, 0], ids=["one row", "three rows", "a row each"])
def test_an_example_is_exact_if_each_of_its_labelled_tokens_is_predicted(
    split_model: SplitModel, row_tokens: int
) -> None:
    """Two parts of a batch, as they are accumulated, count as one."""
    dataset = PrecomputedDataset(split_model, EXAMPLES)
    dataset.row_tokens = row_tokens
    metrics = TokenMetrics()
    for indexes, right in (([0, 1], [True, True, False, True]), ([2, 3], [True, True, False, False, True])):
        batch = dataset.batch(indexes)
        targets = batch["labels"][batch["labels"] != IGNORE_INDEX]
        predicted = torch.where(torch.tensor(right), targets, targets + 1)
        metrics.add(torch.nn.functional.one_hot(predicted, 300).float(), targets, batch)
    found = metrics.read_and_reset()
    assert found.means["mean_token_accuracy"] == round(6 / 9, 5)
    assert found.means["sequence_accuracy"] == 2 / 4
    assert found.tokens == sum(len(one.input_ids) for one in EXAMPLES)


def test_there_may_be_no_examples(split_model: SplitModel) -> None:
    """As of a validation file that a job does not have."""
    assert PrecomputedDataset(split_model, []).hidden_states == []


def test_where_all_layers_are_trained_nothing_is_precomputed_and_rows_are_packed_still(
    whole_adapter: SplitModel,
) -> None:
    assert whole_adapter.can_split
    dataset = PrecomputedDataset(whole_adapter, EXAMPLES)
    assert dataset.hidden_states is None
    batch = dataset.batch(range(len(EXAMPLES)))
    assert len(batch["input_ids"]) == 1
    logits, targets = whole_adapter.labelled_logits(batch)
    expected, expected_targets = alone(whole_adapter)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    found = gradients(whole_adapter, logits, targets)
    assert len(found) == 2 * 2 * 7  # two matrices for each linear layer
    for actual, wanted in zip(found, gradients(whole_adapter, expected, expected_targets), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-3, atol=1e-5)


def test_the_common_prefix_ends_before_the_first_position_with_a_label() -> None:
    same = [EncodedExample([1, 2, 3, 4], [IGNORE_INDEX, IGNORE_INDEX, 3, 4])] * 2
    assert common_prefix_length(same) == 1
    labels = pack(same, [1, 1], 1024)["labels"]
    assert labels.tolist() == [[IGNORE_INDEX, 3, 4, 3, 4] + [IGNORE_INDEX] * (LENGTHS - 5)]
    assert common_prefix_length([example(9, 9), EncodedExample([2, 3, 4], [IGNORE_INDEX, 3, 4])]) == 0


OTHER_SYSTEM = list(range(90, 110))


def begin_with(*own: int) -> EncodedExample:
    ids = [*OTHER_SYSTEM, *own]
    return EncodedExample(ids, [IGNORE_INDEX] * (len(ids) - 2) + ids[-2:])


def test_examples_with_two_system_prompts_have_the_gradients_of_each_alone(
    split_model: SplitModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each prefix is once in a row, and examples do not see the prefix of others."""
    mixed = [one for n in range(8) for one in (example(*range(60 + n, 72)), begin_with(30 + n, 31, 32 + n))]
    monkeypatch.setattr("finetune.engine.training.packing.BEGINNING", len(SYSTEM))
    dataset = PrecomputedDataset(split_model, mixed)
    assert set(dataset.prefix_lengths) == {len(SYSTEM), len(OTHER_SYSTEM)}
    indexes = [0, 1, 2, 3, 5, 4]
    batch = dataset.batch(indexes)
    assert batch["input_ids"].shape[0] == 1
    assert batch["input_ids"][0].tolist().count(OTHER_SYSTEM[0]) == 1
    logits, targets = split_model.labelled_logits(batch)
    monkeypatch.setitem(globals(), "EXAMPLES", [mixed[i] for i in sorted(indexes, key=dataset.groups.__getitem__)])
    expected, expected_targets = alone(split_model)
    assert targets.tolist() == expected_targets.tolist()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    wanted = gradients(split_model, expected, expected_targets)
    for actual, one in zip(gradients(split_model, logits, targets), wanted, strict=True):
        torch.testing.assert_close(actual, one, rtol=1e-3, atol=1e-5)


def test_a_rare_beginning_makes_no_group() -> None:
    common = [example(*range(40, 60)) for _ in range(8)]
    rare = [EncodedExample([n] * 20, [IGNORE_INDEX] * 18 + [n, n]) for n in range(3)]
    assert group_by_beginning([*rare, *common]) == [0] * 3 + [1] * 8


def test_a_model_that_scales_its_logits_is_not_split(split_model: SplitModel) -> None:
    plain = split_model.model.forward
    split_model.model.forward = lambda **inputs: type("Output", (), {"logits": plain(**inputs).logits * 3})()
    whole = SplitModel(split_model.model, 1, EXAMPLES)
    assert not whole.can_split
    dataset = PrecomputedDataset(whole, EXAMPLES)
    assert dataset.hidden_states is None
    logits, targets = whole.labelled_logits(dataset.batch([0, 1, 2, 3]))
    expected, expected_targets = alone(whole)
    assert targets.tolist() == expected_targets.tolist()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_deep_base_in_bfloat16_is_split_although_its_logits_round_differently() -> None:
    """Some logits differ by more than a hundredth; comparing each number would refuse every real base."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(vocab_size=256, num_hidden_layers=24, initializer_range=0.2, **sizes)
    deep: Any = LlamaForCausalLM(config)
    assert SplitModel(deep.to(torch.bfloat16), 21, [example(*range(20 + n, 60), trained=20) for n in (0, 5)]).can_split
