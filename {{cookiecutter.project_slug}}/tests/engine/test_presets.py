"""The table of bases: its memory is the engine's own estimate, and docs/engine.md and `finetune doctor` show it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from finetune.engine import devices
from finetune.engine.presets import ANSWER_TOKENS, PRESETS, ROW_TOKENS, ROWS, Preset, fitting
from finetune.engine.training import base_model, memory
from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample
from finetune.engine.training.hyperparameters import resolve, resolve_with_answers, resolve_with_base
from finetune.project.health import check_bases

PAGE = Path(__file__).parents[2] / "docs" / "engine.md"
HEAD = """| base | million parameters | memory | with `gradient_checkpointing` | seconds for 1,000 tokens | licence |
|---|---|---|---|---|---|
"""


def sizes(
    kind: str, layers: int, width: int, inner: int, heads: int, shared: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    return {
        "kind": kind,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        **more,
    }


QWEN = {"head_dim": 128}
GEMMA = {"head_dim": 256, "sliding_window": 512}
SIZES = {
    "SmolLM2-135M-Instruct": sizes("Llama", 30, 576, 1536, 9, 3, 49152),
    "google/gemma-3-270m-it": sizes("Gemma3Text", 18, 640, 2048, 4, 1, 262144, **GEMMA),
    "HuggingFaceTB/SmolLM2-360M-Instruct": sizes("Llama", 32, 960, 2560, 15, 5, 49152),
    "Qwen/Qwen3-0.6B": sizes("Qwen3", 28, 1024, 3072, 16, 8, 151936, **QWEN),
    "google/gemma-3-1b-it": sizes("Gemma3Text", 26, 1152, 6912, 4, 1, 262144, **GEMMA),
    "meta-llama/Llama-3.2-1B-Instruct": sizes("Llama", 16, 2048, 8192, 32, 8, 128256),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": sizes("Llama", 24, 2048, 8192, 32, 32, 49152),
    "Qwen/Qwen3-1.7B": sizes("Qwen3", 28, 2048, 6144, 16, 8, 151936, **QWEN),
    "HuggingFaceTB/SmolLM3-3B": sizes("SmolLM3", 36, 2048, 11008, 16, 4, 128256),
    "microsoft/Phi-4-mini-instruct": sizes("Phi3", 32, 3072, 8192, 24, 8, 200064),
    "Qwen/Qwen3-4B": sizes("Qwen3", 36, 2560, 9728, 32, 8, 151936, **QWEN),
    "mistralai/Mistral-7B-Instruct-v0.3": sizes("Mistral", 32, 4096, 14336, 32, 8, 32768, tie_word_embeddings=False),
    "Qwen/Qwen3-8B": sizes("Qwen3", 36, 4096, 12288, 32, 8, 151936, tie_word_embeddings=False, **QWEN),
}


def base_of(kind: str, **settings: Any) -> memory.Base:
    """Return the sizes of a base's weights, as its files have them, without the weights."""
    config = getattr(transformers, f"{kind}Config")(**settings)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return memory.Base(config, {name: weight.shape for name, weight in model.named_parameters()})


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_memory_of_the_table_is_the_estimate_for_a_usual_job(
    monkeypatch: pytest.MonkeyPatch, preset: Preset
) -> None:
    monkeypatch.setattr(base_model, "best_device", lambda: "cpu")
    base = base_of(**SIZES[preset.name])
    assert round(sum(torch.Size(shape).numel() for shape in base.shapes.values()) / 1e6) == preset.parameters
    layers = base.config.num_hidden_layers
    labels = [IGNORE_INDEX] * (ROW_TOKENS - ANSWER_TOKENS) + [7] * ANSWER_TOKENS
    rows = [EncodedExample([n, *[7] * (ROW_TOKENS - 1)], labels) for n in range(ROWS)]
    asked = resolve_with_base({}, layers, ROW_TOKENS)
    shape: Any = resolve(resolve_with_answers(asked, layers, [ANSWER_TOKENS], "supervised"), ROWS)
    assert shape["batch_size"] == 8
    for checkpointing, expected in ((False, preset.memory), (True, preset.least)):
        shape["gradient_checkpointing"] = checkpointing
        assert round(memory.estimate(base, shape, "bfloat16", rows).total / 1e9, 1) == expected


def test_the_document_has_the_table() -> None:
    rows = [
        f"| `{one.name}` | {one.parameters:,} | {one.memory} GB | {one.least} GB | {one.seconds or 'not measured'} |"
        f" {one.licence} |\n"
        for one in PRESETS
    ]
    assert HEAD + "".join(rows) in PAGE.read_text(encoding="utf-8"), "Its lines are: \n" + HEAD + "".join(rows)


def test_a_base_fits_where_its_job_does() -> None:
    assert fitting(0, "bfloat16") == []
    assert fitting(10**12, "float32") == [one.name for one in PRESETS]
    name, exactly = PRESETS[3].name, round(PRESETS[3].memory * 1e9)
    assert name in fitting(exactly, "bfloat16")
    for fewer, dtype in ((exactly - 10**8, "bfloat16"), (exactly, "float32")):
        assert name not in fitting(fewer, dtype)
        assert f"{name} with gradient_checkpointing" in fitting(fewer, dtype)


def test_the_doctor_names_what_fits_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_bases().check == "bases"  # of this machine, whatever it has
    monkeypatch.setattr(devices, "available_bytes", lambda: 6_000_000_000)
    monkeypatch.setattr(devices, "best_dtype", lambda: "bfloat16")
    check = check_bases()
    assert check.state == "ok"
    assert check.found.startswith("fit this machine (6.0 GB of memory are free): SmolLM2-135M-Instruct, ")
    assert "Qwen/Qwen3-0.6B with gradient_checkpointing" in check.found
