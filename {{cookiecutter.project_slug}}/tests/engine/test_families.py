"""Bases of common families, in several files and in the hub's cache: trained, killed, resumed, asked and exported."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import openai
import pytest
import torch
from conftest import adapter_bytes, start_job, wait
from peft import PeftModel, get_peft_model
from test_jobs import kill, wait_for_event
from tiny import SIZES, WINDOW, random_model
from tokenizers_of_tests import ENDS, with_template
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from finetune.engine import bases, worker_launcher
from finetune.engine.api_errors import JobError
from finetune.engine.training.base_model import lora_config
from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample
from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
from finetune.engine.training.hyperparameters import resolve, resolve_with_base
from finetune.export.adapter import check_adapter, export_adapter, trained_adapter
from finetune.export.base_folder import base_folder
from finetune.export.merge import check_merged, export_merged

ALL = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
TIED = {"tie_word_embeddings": True}
KINDS = {"layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]}
# Of each family: its configuration, its chat template, and the linear layers that LoRA trains.
FAMILIES: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "Llama": (TIED, "dated", ALL),
    "Qwen3": ({**TIED, "head_dim": 16}, "hermes", ALL),
    "Gemma3Text": ({**WINDOW, **KINDS}, "gemma", ALL),
    "Mistral": (WINDOW, "mistral", ALL),
    "SmolLM3": ({**TIED, "no_rope_layers": [1, 1, 1, 0]}, "dated", ALL),
    "Phi3": ({}, "phi", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
    "Qwen2": (TIED, "chatml", ALL),
    "Gemma2": ({**WINDOW, "final_logit_softcapping": 1.0}, "gemma", ALL),
    "Phi": ({}, "chatml", {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"}),
}
FURTHER = ("Qwen3", "Mistral", "SmolLM3", "Qwen2", "Gemma2", "Phi")  # each is near to one of the others
REVISION = hashlib.sha1(b"weights").hexdigest()
SHARD = "200KB"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a new worker soon after one died."""
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache of the hub, which cannot be reached."""
    folder = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield folder


def in_the_cache(kind: str, hub: Path) -> str:
    """Write a base into the hub's cache, as files by their content and links to them, and return its name."""
    settings, template, _ = FAMILIES[kind]
    tokenizer = with_template(template)
    repository = hub / f"models--organisation--{kind}"
    snapshot = repository / "snapshots" / REVISION
    model = random_model(kind, **{"vocab_size": len(tokenizer), **settings}).to(torch.bfloat16)
    end = tokenizer.convert_tokens_to_ids(ENDS.get(template, tokenizer.eos_token))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    model.save_pretrained(snapshot, max_shard_size=SHARD)
    tokenizer.save_pretrained(snapshot)
    assert len(list(snapshot.glob("*.safetensors"))) > 1
    (repository / "blobs").mkdir()
    for path in sorted(snapshot.iterdir()):
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        path.symlink_to(os.path.relpath(blob, snapshot))
    # The same weights in one file for other programs, which must not be counted twice.
    (snapshot / "consolidated.safetensors").symlink_to(os.path.relpath(blob, snapshot))
    return f"organisation/{kind}@{REVISION}"


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.further if k in FURTHER else pytest.mark.slow) for k in FAMILIES]
)
def test_a_base_of_the_hub_is_trained_killed_resumed_asked_and_exported(
    client: openai.OpenAI, home: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name = in_the_cache(kind, hub)
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "lora_layers": 3}}}
    job, killed = (start_job(client, model=name, method=method) for _ in range(2))
    ended = wait(client, job.id)
    assert ended.status == "succeeded", ended.error
    wait_for_event(client, killed.id, "Step 15/")
    kill(home)
    assert wait(client, killed.id).status == "succeeded"
    assert adapter_bytes(client, killed.id) == adapter_bytes(client, job.id)

    messages: Any = [{"role": "system", "content": "Paint."}, {"role": "user", "content": "1: paint it blue"}]
    for model in (name, ended.fine_tuned_model):
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=4, temperature=0)
        assert answer.usage
        assert answer.usage.completion_tokens

    monkeypatch.chdir(tmp_path)
    weights = Path("models/weights")
    weights.mkdir(parents=True)
    config, tensors = adapter_bytes(client, job.id)
    (weights / "adapter_config.json").write_bytes(config)
    (weights / "adapter_model.safetensors").write_bytes(tensors)
    assert set(json.loads(config)["target_modules"]) == FAMILIES[kind][2]
    assert json.loads(config)["layers_to_transform"] == [1, 2, 3]
    adapter, base = trained_adapter(name), base_folder(name)
    export_merged(base, adapter, Path("merged"))
    check_merged(Path("merged"), base, adapter)
    export_adapter(adapter, name, Path("adapter"))
    check_adapter(Path("adapter"), name)
    ids = torch.arange(40)[None] + 2
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        untuned = plain(ids).logits
        tuned = PeftModel.from_pretrained(plain, "adapter")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained("merged", dtype=torch.float32)(ids).logits
    assert (merged - tuned).norm() < 0.1 * tuned.norm()
    assert (merged - tuned).norm() < (untuned - tuned).norm()


def example(first: int, length: int) -> EncodedExample:
    ids = [1, 5, 6, 7, 8, *range(first, first + length)]
    return EncodedExample(ids, [IGNORE_INDEX] * (len(ids) - 3) + ids[-3:])


EXAMPLES = [example(20, 4), example(30, 3), example(40, 60), example(21, 9)]


@pytest.mark.parametrize("kind", FAMILIES)
def test_packed_rows_have_the_logits_of_each_example_alone(kind: str) -> None:
    """With frozen layers computed once, in bases with kinds of layers and capped logits too."""
    check_packed_rows(kind, {**FAMILIES[kind][0], "sliding_window": 90})


@pytest.mark.parametrize("kind", ["Gemma2", "Gemma3Text", "Mistral"])
def test_examples_longer_than_a_window_have_the_logits_of_each_alone(kind: str) -> None:
    check_packed_rows(kind, {**FAMILIES[kind][0], "sliding_window": 40})


def check_packed_rows(kind: str, settings: dict[str, Any]) -> None:
    """Compare packed rows with each example alone, in a base of a kind with three of its four layers adapted."""
    base = random_model(kind, **settings)
    shape: Any = resolve(resolve_with_base({"lora_layers": 3}, 4, 1024), len(EXAMPLES))
    model: Any = get_peft_model(base, lora_config(base, shape))
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the adapter
            torch.nn.init.normal_(weight, std=0.1)
    split_model = SplitModel(model.get_base_model(), 1, EXAMPLES[:2])
    assert split_model.can_split == (kind != "Phi")
    dataset = PrecomputedDataset(split_model, EXAMPLES)
    with torch.no_grad():
        logits, targets = split_model.labelled_logits(dataset.batch([0, 1, 2, 3]))
        for number, one in enumerate(EXAMPLES):
            alone = split_model.model(torch.tensor([one.input_ids])).logits[0, -4:-1]
            place = slice(3 * number, 3 * number + 3)
            assert targets[place].tolist() == one.labels[-3:]
            torch.testing.assert_close(logits[place], alone, rtol=1e-3, atol=1e-3)


def test_a_base_without_linear_layers_is_refused_by_its_kind() -> None:
    base = random_model("GPT2", n_embd=64, n_layer=4, n_head=4)
    shape: Any = resolve(resolve_with_base({"lora_layers": 3}, 4, 1024), len(EXAMPLES))
    with pytest.raises(JobError, match="kind 'gpt2' has no linear layers"):
        lora_config(base, shape)


def test_of_a_base_that_reads_images_only_the_part_for_texts_is_trained() -> None:
    """Its layers for images have the same names and numbers."""
    images = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config={**SIZES, **WINDOW, **KINDS},
        vision_config={**images, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    base: Any = Gemma3ForConditionalGeneration(config)
    base.eval()
    shape: Any = resolve(resolve_with_base({"lora_layers": 3}, 4, 1024), len(EXAMPLES))
    model: Any = get_peft_model(base, lora_config(base, shape))
    adapted = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert len(adapted) == 3 * len(ALL)
    assert all("language_model.layers." in name for name in adapted)
    assert SplitModel(model.get_base_model(), 1, EXAMPLES[:2]).can_split


@pytest.mark.usefixtures("forked_workers")
def test_a_base_that_is_not_in_the_cache_fails_the_job_with_its_name(client: openai.OpenAI) -> None:
    job = wait(client, start_job(client, model=f"organisation/Missing@{REVISION}").id)
    assert (job.status, job.error.code) == ("failed", "model_not_found")
    assert "Cannot download 'organisation/Missing@" in job.error.message
    assert not bases.ready(f"organisation/Missing@{REVISION}", Path())
