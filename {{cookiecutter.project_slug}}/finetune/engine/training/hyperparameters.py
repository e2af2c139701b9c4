"""The engine's choices for training: limits and defaults of hyperparameters, the learning rate, and what LoRA adapts.

Imports neither torch nor PEFT before `lora_config` is called.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from finetune.engine.api_errors import JobError

if TYPE_CHECKING:
    from peft import LoraConfig

# The largest value of each. The smallest of the first two is 1; the multiplier must be above 0.
LIMITS = {"n_epochs": 50, "batch_size": 256, "learning_rate_multiplier": 1000}

BASE_LEARNING_RATE = 1e-3  # at learning_rate_multiplier 1; it falls linearly to 0
LORA_RANK = 16
LORA_ALPHA = 2 * LORA_RANK
LINEAR_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Hyperparameters(TypedDict):
    """A job's hyperparameters as numbers, as the column `resolved` of the jobs holds them."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float


def resolve(asked: Mapping[str, float | str], examples: int) -> dict[str, float | str]:
    """Return the hyperparameters with numbers in place of `auto`. `examples` is the length of the training file.

    n_epochs: 3, but at least 100 examples in total (at most 25 epochs) and at most 25,000: the rule in OpenAI's
    cookbook. batch_size: 8, or less for files under 80 examples, so that an epoch has ten steps.
    learning_rate_multiplier: 1, which is BASE_LEARNING_RATE.
    """
    epochs = 3
    if examples * epochs < 100:
        epochs = min(25, 100 // examples)
    elif examples * epochs > 25_000:
        epochs = max(1, 25_000 // examples)
    auto = {"n_epochs": epochs, "batch_size": max(1, min(8, examples // 10)), "learning_rate_multiplier": 1.0}
    return {key: auto[key] if value == "auto" else value for key, value in asked.items()}


def first_trained_layer(base: Any) -> int:
    """Return the index of the lowest layer that is trained: LoRA adapts the top eighth of the layers, rounded up.

    Few are enough and cost the least: of SmolLM2's 30 layers the top 3, 4 and 6 got 0.876, 0.860 and 0.865 of the
    starter's test rows right.
    """
    layers = int(base.config.num_hidden_layers)
    return layers - -(-layers // 8)


def lora_config(base: Any, first: int) -> "LoraConfig":
    """Return PEFT's configuration for LoRA on the linear layers of layer `first` and above.

    Raises JobError if the base has none of LINEAR_LAYERS.
    """
    import torch
    from peft import LoraConfig

    names = {name.rsplit(".", 1)[-1] for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)}
    targets = [name for name in LINEAR_LAYERS if name in names]
    if not targets:
        what = f"This base has no linear layer named {', '.join(LINEAR_LAYERS)}, so LoRA cannot train it."
        raise JobError("model_not_found", what, "model")
    layers = list(range(first, base.config.num_hidden_layers))
    return LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=targets, layers_to_transform=layers, task_type="CAUSAL_LM"
    )
