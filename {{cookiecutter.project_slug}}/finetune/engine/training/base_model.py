"""Load the base of a job, and put a new LoRA adapter on its top layers."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from finetune.engine.api_errors import JobError
from finetune.engine.training.encoding import EncodedExample
from finetune.engine.training.hyperparameters import Hyperparameters

LINEAR_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MAX_EAGER_TOKENS = 512  # of the longest example, for eager attention


def is_eager(longest: int) -> bool:
    """Return whether attention is computed eagerly: it is the faster one for short examples on a CPU.

    For long ones its backward pass needs more memory.
    """
    return longest <= MAX_EAGER_TOKENS and not torch.cuda.is_available()


def load_base(folder: Path, dtype: str, examples: Sequence[EncodedExample], quantize: str | None = None) -> Any:
    """Load a base with the attention that suits these examples. Raises JobError if it cannot be quantized here."""
    settings: dict[str, Any] = {}
    if quantize:
        refuse_quantization_here(quantize)
        settings["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
        )
    longest = max(len(example.input_ids) for example in examples)
    attention = "eager" if is_eager(longest) else "sdpa"
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation=attention, **settings
    )


def refuse_quantization_here(quantize: str) -> None:
    """Raise JobError unless this machine has what 4-bit weights need."""
    lacks = [] if torch.cuda.is_available() else ["a CUDA GPU"]
    lacks += [] if importlib.util.find_spec("bitsandbytes") else ["the package bitsandbytes"]
    if lacks:
        what = f"quantize {quantize!r} is not possible on this server: it lacks {' and '.join(lacks)}."
        raise JobError("unsupported_value", f"{what} Leave quantize out.", "hyperparameters")


def recompute_activations(base: Any) -> None:
    """Keep only what enters each layer, and compute the rest again in the backward pass: gradient checkpointing."""
    # Transformers renamed it within version 5.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def first_trained_layer(base: Any, hyperparameters: Hyperparameters) -> int:
    """Return the index of the lowest layer that is trained."""
    return int(base.config.num_hidden_layers) - hyperparameters["lora_layers"]


def lora_config(base: Any, hyperparameters: Hyperparameters) -> LoraConfig:
    """Return PEFT's configuration for LoRA on the linear layers of the top `lora_layers` layers.

    Raises JobError if the base has none of LINEAR_LAYERS.
    """
    names = {name.rsplit(".", 1)[-1] for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)}
    targets = [name for name in LINEAR_LAYERS if name in names]
    if not targets:
        what = f"This base has no linear layer named {', '.join(LINEAR_LAYERS)}, so LoRA cannot train it."
        raise JobError("model_not_found", what, "model")
    layers = list(range(first_trained_layer(base, hyperparameters), base.config.num_hidden_layers))
    return LoraConfig(
        r=hyperparameters["lora_r"],
        lora_alpha=hyperparameters["lora_alpha"],
        lora_dropout=hyperparameters["lora_dropout"],
        target_modules=targets,
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
    )


def load_adapter(model: PeftModel, adapter: Path) -> None:
    """Load the weights of an adapter's folder into a model that has the same adapted layers."""
    weights = load_file(adapter / "adapter_model.safetensors")
    if weights.keys() != get_peft_model_state_dict(model).keys():
        # PEFT would silently leave out the layers that this job does not train.
        what = "The adapter of this job's model is on other layers than this engine trains. Start from a base model."
        raise JobError("model_not_found", what, "model")
    set_peft_model_state_dict(model, weights)
