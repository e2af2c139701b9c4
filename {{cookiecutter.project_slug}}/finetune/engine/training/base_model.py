"""Load the base of a job, and put a new LoRA adapter on its top layers."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from finetune.engine.api_errors import JobError
from finetune.engine.devices import best_device
from finetune.engine.training.encoding import EncodedExample
from finetune.engine.training.hyperparameters import Hyperparameters

MAX_EAGER_TOKENS = 512  # of the longest example, for eager attention


def is_eager(config: Any, longest: int) -> bool:
    """Return whether attention is computed eagerly: it is the faster one for short examples on a CPU.

    For long ones its backward pass needs more memory. `config` is the base's configuration for texts: PyTorch's
    attention cannot cap its scores, as Gemma 2 does.
    """
    is_short = longest <= MAX_EAGER_TOKENS and best_device() == "cpu"
    return is_short or getattr(config, "attn_logit_softcapping", None) is not None


def load_base(folder: Path, dtype: str, examples: Sequence[EncodedExample], quantize: str | None = None) -> Any:
    """Load a base, to the GPU if it is quantized, with the attention that suits these examples.

    Raises JobError if it cannot be quantized here.
    """
    settings: dict[str, Any] = {}
    if quantize:
        refuse_quantization_here(quantize)
        settings["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
        )
    if is_eager(text_config(folder), max(len(example.input_ids) for example in examples)):
        settings["attn_implementation"] = "eager"  # else the best one that the base has
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **settings)


def text_config(folder: Path) -> Any:
    """Return a base's configuration; of a base that reads images too, the part for texts."""
    return AutoConfig.from_pretrained(folder).get_text_config()


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
    return int(base.config.get_text_config().num_hidden_layers) - hyperparameters["lora_layers"]


def lora_config(base: Any, hyperparameters: Hyperparameters) -> LoraConfig:
    """Return PEFT's configuration for LoRA on all linear layers of the top `lora_layers` layers.

    Raises JobError if the base has none.
    """
    decoder = base.get_decoder()
    layers = getattr(decoder, "layers", [])
    names = {
        name.rsplit(".", 1)[-1]: None  # in their order, and each once
        for layer in layers
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    if not names:
        kind = base.config.model_type
        what = f"A base of the kind {kind!r} has no linear layers where LoRA of this engine trains them."
        raise JobError("model_not_found", what, "model")
    place = next(name for name, module in base.named_modules() if module is decoder)
    is_outside = any(
        name.rsplit(".", 1)[-1] in names and not name.startswith(f"{place}.")
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear)
    )
    return LoraConfig(
        r=hyperparameters["lora_r"],
        lora_alpha=hyperparameters["lora_alpha"],
        lora_dropout=hyperparameters["lora_dropout"],
        target_modules=list(names),
        # The layers of a base's part for images have the same names and numbers.
        exclude_modules=rf"(?!{re.escape(place)}\.).*" if is_outside else None,
        layers_to_transform=list(range(first_trained_layer(base, hyperparameters), len(layers))),
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
