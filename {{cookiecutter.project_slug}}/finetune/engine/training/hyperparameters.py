"""The hyperparameters of a job: their limits, and what `auto` becomes. Imports neither torch nor PEFT."""

from collections.abc import Mapping, Sequence
from statistics import median_low
from typing import Any

from typing_extensions import NotRequired, TypedDict

from finetune.engine.api_errors import JobError

# The largest value of each.
LIMITS = {
    "n_epochs": 50,
    "batch_size": 256,
    "learning_rate_multiplier": 1000,
    "learning_rate": 1,
    "lora_r": 256,
    "lora_alpha": 1024,
    "beta": 2,
}

BASE_LEARNING_RATE = 1e-3  # at learning_rate_multiplier 1; it falls linearly to 0
DPO_LEARNING_RATE = 2e-4  # the same for the method dpo
BETA = 0.1  # of the method dpo, as in its paper and in TRL
LORA_RANK = 16
SHORT_ANSWER = 8  # tokens of an answer, with the one that ends it: a class, a code or a number
SHAPE = ("lora_r", "lora_alpha", "lora_layers")  # of an adapter; that of a tuned model stays when it is trained further
# Settings of adapters from elsewhere, with which the same weights would have another effect.
OTHER_KINDS = ("use_rslora", "use_dora", "lora_bias", "rank_pattern", "alpha_pattern")
# What `auto` means for these depends on the base, for lora_layers on the answers too. It is known when training starts.
OF_THE_BASE = (*SHAPE, "max_length")


class Hyperparameters(TypedDict):
    """A job's hyperparameters as numbers, as the column `resolved` of the jobs holds them once training has started."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: NotRequired[float]  # not if learning_rate was asked for
    learning_rate: float
    weight_decay: float
    warmup_ratio: float
    lora_r: int
    lora_alpha: int
    lora_layers: int  # the adapted layers, counted from the top
    lora_dropout: float
    max_length: int  # of an example, in tokens
    quantize: str | None  # "4bit"
    gradient_checkpointing: bool
    beta: NotRequired[float]  # of the method dpo: how much a model is held to its start


def resolve(asked: Mapping[str, Any], examples: int, method: str = "supervised") -> dict[str, Any]:
    """Return the hyperparameters with values in place of `auto`, but for the rate and those of OF_THE_BASE.

    `examples` is the length of the training file. Missing ones are `auto`; resolving twice changes nothing.
    n_epochs: 3, but at least 100 examples in total (at most 25 epochs) and at most 25,000: the rule in OpenAI's
    cookbook. batch_size: 8, or less for files under 80 examples, so that an epoch has ten steps.
    learning_rate: the multiplier × BASE_LEARNING_RATE, or × DPO_LEARNING_RATE. beta: BETA, for dpo only.
    """
    epochs = 3
    if examples * epochs < 100:
        epochs = min(25, 100 // examples)
    elif examples * epochs > 25_000:
        epochs = max(1, 25_000 // examples)
    given = {key: value for key, value in asked.items() if value != "auto"}
    if "learning_rate" not in given:
        multiplier = given.setdefault("learning_rate_multiplier", "auto")
        rate = DPO_LEARNING_RATE if method == "dpo" else BASE_LEARNING_RATE
        given["learning_rate"] = "auto" if multiplier == "auto" else rate * multiplier
    return {
        "n_epochs": epochs,
        "batch_size": max(1, min(8, examples // 10)),
        "weight_decay": 0.0,
        "warmup_ratio": 0.0,
        "lora_dropout": 0.0,
        "quantize": None,
        "gradient_checkpointing": False,
        **({"beta": BETA} if method == "dpo" else {}),
        **dict.fromkeys(OF_THE_BASE, "auto"),
        **given,
    }


def resolve_with_base(
    asked: Mapping[str, Any], layers: int, context: int, parent: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the hyperparameters with numbers for those of OF_THE_BASE. lora_layers may stay `auto`.

    `layers` and `context` are those of the base; `parent` is the content of the adapter_config.json of the adapter that
    is trained further. lora_r: 16. lora_alpha: twice lora_r. max_length: the base's context.
    Raises JobError for more layers or tokens than the base has, and for another shape than the parent's.
    """
    found = dict.fromkeys(OF_THE_BASE, "auto") | dict(asked)
    if found["lora_layers"] == "all":
        found["lora_layers"] = layers
    own = shape_of(parent, layers) if parent else {}
    for name in SHAPE:
        if own and found[name] not in ("auto", own[name]):
            raise refused(
                f"The adapter of this job's model has {name} {own[name]}, and this job asks for {found[name]}."
                f" Leave {name} out, or start from a base model."
            )
    default = {"lora_r": LORA_RANK, "max_length": context} | own
    for name, value in default.items():
        found[name] = value if found[name] == "auto" else found[name]
    if found["lora_alpha"] == "auto":
        found["lora_alpha"] = 2 * found["lora_r"]
    for name, most in (("lora_layers", layers), ("max_length", context)):
        if found[name] != "auto" and found[name] > most:
            raise refused(f"{name} is {found[name]}, but it is at most {most} for this base.")
    return found


def resolve_with_answers(
    asked: Mapping[str, Any], layers: int, answer_tokens: Sequence[int], method: str
) -> dict[str, Any]:
    """Return the hyperparameters with numbers for lora_layers and learning_rate_multiplier.

    `layers` is that of the base, `answer_tokens` the number of trained tokens of each example.
    lora_layers: the top eighth of the layers, rounded up, if the median answer has at most SHORT_ANSWER tokens, else
    the top half. learning_rate_multiplier: 2 up to a quarter of the layers, 1 for half, 0.5 for all.
    For another method than supervised: the top eighth, and 1. docs/recipes.md has the measurements.
    """
    found = dict(asked)
    is_supervised = method == "supervised"
    if found["lora_layers"] == "auto":
        is_long = is_supervised and median_low(answer_tokens) > SHORT_ANSWER
        found["lora_layers"] = -(-layers // (2 if is_long else 8))
    if found.get("learning_rate", "auto") == "auto" and found.get("learning_rate_multiplier", "auto") == "auto":
        multiplier = min(2.0, layers / (2 * found["lora_layers"])) if is_supervised else 1.0
        found["learning_rate_multiplier"] = round(multiplier, 2)
    return found


def shape_of(adapter: Mapping[str, Any], layers: int) -> dict[str, int]:
    """Return the shape of an adapter. Raises JobError if it is not on the top layers, or no plain LoRA."""
    if kinds := [name for name in OTHER_KINDS if adapter.get(name)]:
        what = f"The adapter of this job's model has {', '.join(kinds)}, which this engine does not train."
        raise JobError("model_not_found", f"{what} Start from a base model.", "model")
    adapted = adapter.get("layers_to_transform")
    adapted = [adapted] if isinstance(adapted, int) else adapted
    adapted = list(range(layers)) if adapted is None else sorted(adapted)
    if adapted != list(range(layers - len(adapted), layers)):
        what = "The adapter of this job's model is on other layers than this engine trains. Start from a base model."
        raise JobError("model_not_found", what, "model")
    return {"lora_r": adapter["r"], "lora_alpha": adapter["lora_alpha"], "lora_layers": len(adapted)}


def refused(what: str) -> JobError:
    """Return the exception for hyperparameters that cannot be trained with."""
    return JobError("invalid_value", what, "hyperparameters")
