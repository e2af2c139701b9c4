"""Estimate the memory of a job before it starts, and refuse a job that does not fit, with what would fit.

The estimate is for decoders of Llama's form with LoRA: what autograd keeps for the backward pass of each trained layer,
by the sizes of its linear layers. tests/engine/test_memory.py compares it with the peak of real jobs.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from finetune.engine import allocator
from finetune.engine.training.base_model import is_eager
from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample
from finetune.engine.training.frozen_layers import MAX_PRECOMPUTED_BYTES
from finetune.engine.training.hyperparameters import Hyperparameters, refused
from finetune.engine.training.packing import (
    ROW_TOKENS,
    assign_rows,
    group_by_beginning,
    needed_length,
    padded_length,
    prefix_lengths_of,
)

MAX_MICRO_BATCH = 16  # examples of a process; larger batches are accumulated from equal parts of at most this size
LIBRARIES = 100_000_000  # bytes that PyTorch, Transformers and PEFT take while they train, beside what is counted here
GAPS = 1.2  # of the allocator: measured peaks were up to a fifth above the activations that are counted here
FLOAT = 4  # bytes: norms, softmax and loss are computed in float32


class Base(NamedTuple):
    """The sizes of a base: its configuration for texts, and the shapes of its weights by name."""

    config: Any
    shapes: Mapping[str, Sequence[int]]

    def linear(self, layer: int) -> dict[str, tuple[int, int]]:
        """Return the outputs and inputs of the linear layers of a layer, by name."""
        return {
            name.split(".")[-2]: (shape[0], shape[1])
            for name, shape in self.shapes.items()
            if f".layers.{layer}." in name and len(shape) == 2 and "vision" not in name
        }

    def layer(self, layer: int) -> int:
        """Return the number of weights of a layer."""
        shapes = (shape for name, shape in self.shapes.items() if f".layers.{layer}." in name and "vision" not in name)
        return sum(torch.Size(shape).numel() for shape in shapes)


class Memory(NamedTuple):
    """The bytes that one process of a job needs."""

    weights: int
    optimizer: int  # with the gradients and the adapter itself
    activations: int
    hidden_states: int
    rows: int  # of the largest part of a batch
    row_length: int

    @property
    def total(self) -> int:
        return self.weights + self.optimizer + self.activations + self.hidden_states + LIBRARIES


def read_base(folder: Path, config: Any) -> Base | None:
    """Return the sizes of a base; None if its weights are not in the format safetensors."""
    shapes: dict[str, Sequence[int]] = {}
    index = folder / "model.safetensors.index.json"  # of weights in several files
    names = set(json.loads(index.read_bytes())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    for path in sorted(folder / name for name in names if (folder / name).exists()):
        with safe_open(path, "pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return Base(config, shapes) if shapes else None


def micro_batch(batch_size: int, processes: int, answers: int = 1) -> int:
    """Return the size of the equal parts of a batch, which all processes train on together.

    `answers` is how many each example has: two if it is a preference.
    """
    sizes = range(1, min(MAX_MICRO_BATCH // answers * processes, batch_size) + 1)
    return max(size for size in sizes if batch_size % size == 0)


def answers_of(hyperparameters: Hyperparameters) -> int:
    """Return how many answers an example has: two if it is a preference."""
    return 2 if "beta" in hyperparameters else 1


def largest_part(examples: Sequence[EncodedExample], size: int) -> tuple[int, int, int]:
    """Return rows, length of the longest row and labelled tokens of the largest part of a batch that can be drawn."""
    groups = group_by_beginning(examples)
    prefixes = prefix_lengths_of(examples, groups)
    own = [needed_length(example) - length for example, length in zip(examples, prefixes, strict=True)]
    longest = sorted(range(len(examples)), key=own.__getitem__)[-size:]
    longest.sort(key=groups.__getitem__)
    rows = assign_rows([examples[i] for i in longest], [prefixes[i] for i in longest], ROW_TOKENS)
    labelled = sorted(sum(label != IGNORE_INDEX for label in example.labels) for example in examples)[-size:]
    return len(rows), padded_length(rows), sum(labelled)


def estimate(
    base: Base,
    hyperparameters: Hyperparameters,
    dtype: str,
    examples: Sequence[EncodedExample],
    validation: Sequence[EncodedExample] = (),
    processes: int = 1,
    shards: int = 1,
) -> Memory:
    """Return the memory that a process of a job needs, beside what it uses before it loads the base.

    `shards` is among how many processes the weights of each layer are divided.
    """
    size, config = torch.finfo(getattr(torch, dtype)).bits // 8, base.config
    layers, trained = config.num_hidden_layers, hyperparameters["lora_layers"]
    linear = [shape for layer in range(layers) for shape in base.linear(layer).values()]
    in_linear = sum(rows * columns for rows, columns in linear)
    everything = sum(torch.Size(shape).numel() for shape in base.shapes.values())
    weights = (
        everything * size if hyperparameters["quantize"] is None else (everything - in_linear) * size + in_linear // 2
    )
    in_layers = [base.layer(layer) for layer in range(layers)]
    if shards > 1:  # a process has one layer whole while it computes it, and gathers the next one
        weights += (sum(in_layers) // shards + 2 * max(in_layers) - sum(in_layers)) * size
    adapted = [shape for layer in range(layers - trained, layers) for shape in base.linear(layer).values()]
    adapter = sum(hyperparameters["lora_r"] * sum(shape) for shape in adapted)
    states = [sum(len(one.input_ids) for one in file) * config.hidden_size * size for file in (examples, validation)]
    of_training, of_validation = (one if one <= MAX_PRECOMPUTED_BYTES and trained < layers else 0 for one in states)
    hidden_states = of_training + 2 * of_validation  # the batches of the validation file are packed once

    answers = answers_of(hyperparameters)
    part = -(-micro_batch(hyperparameters["batch_size"], processes, answers) // processes)
    rows, length, labelled = largest_part(examples, answers * part)
    longest = max(len(one.input_ids) for one in [*examples, *validation])
    eager = is_eager(config, longest)
    layer = rows * length * bytes_a_token(base, size, length, eager, hyperparameters["lora_dropout"] > 0)
    kept = rows * length * config.hidden_size * size if hyperparameters["gradient_checkpointing"] else layer
    mask = rows * length * length * size
    # Of logits: in the dtype and in float32, their gradients likewise, and the logarithms of their softmax.
    training = kept * trained + layer + mask + labelled * config.vocab_size * (2 * size + 3 * FLOAT)
    rows_measured, length_measured, labelled_measured = (
        largest_part(validation, answers * hyperparameters["batch_size"]) if validation else (0, 0, 0)
    )
    measuring = labelled_measured * config.vocab_size * (size + 2 * FLOAT) + rows_measured * length_measured * (
        bytes_a_token(base, size, length_measured, eager, False)
    )
    return Memory(weights, adapter * size * 4, int(GAPS * max(training, measuring)), hidden_states, rows, length)


def bytes_a_token(base: Base, size: int, length: int, eager: bool, dropout: bool) -> int:
    """Return what the backward pass of one trained layer needs of each token in a row of this length."""
    config = base.config
    linear = base.linear(config.num_hidden_layers - 1)
    width, heads = config.hidden_size, config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * width
    attended = heads * (getattr(config, "head_dim", None) or width // heads)
    # Two norms in float32; what enters the linear layers; queries, keys, values and their weighted sum.
    own: int = 2 * width * FLOAT + 2 * width * size + 4 * attended * size
    own += 4 * inner * size  # the gate, its activation, the other half and their product
    if eager:
        own += heads * length * (FLOAT + size)  # attention weights in float32 and in the dtype
    if dropout:
        own += sum(columns * (size + 1) for _, columns in linear.values())  # its masks and its outputs
    return own


def processes_here() -> int:
    """Return how many processes of the job share this machine's memory: on GPUs, each has its own."""
    return 1 if torch.cuda.is_available() else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def refuse_if_too_large(
    base: Base,
    hyperparameters: Hyperparameters,
    dtype: str,
    examples: Sequence[EncodedExample],
    validation: Sequence[EncodedExample],
    processes: int,
    available: int,
    shards: int = 1,
) -> None:
    """Raise JobError, with the numbers and what would fit, if a job needs more than the available bytes.

    A job that needs more than half of them gives back what it frees, and a smaller one keeps it: see `allocator`.
    """
    need = estimate(base, hyperparameters, dtype, examples, validation, processes, shards)
    share = available // processes_here()
    if need.total > share / 2:
        allocator.give_back_freed_blocks()
    else:
        allocator.keep_freed_blocks()
    if need.total <= share:
        return

    def fits(changed: Mapping[str, Any]) -> bool:
        tried: Any = {**hyperparameters, **changed}
        kept = [[one for one in file if len(one.input_ids) <= tried["max_length"]] for file in (examples, validation)]
        return bool(kept[0]) and estimate(base, tried, dtype, kept[0], kept[1], processes, shards).total <= share

    found = [next(filter(fits, changes), None) for changes in smaller(hyperparameters, examples)]
    would_fit = [f"{name} {str(value).lower()}" for change in found if change for name, value in change.items()]
    remedy = f"One of these would fit: {', '.join(would_fit)}." if would_fit else "Train a smaller base."
    if not would_fit and fits(least := {"batch_size": 1, "lora_layers": 1, "gradient_checkpointing": True}):
        remedy = "These together would fit: " + ", ".join(f"{k} {str(v).lower()}" for k, v in least.items()) + "."
    parts = {
        "the base's weights": need.weights,
        "the adapter, its gradients and the optimizer": need.optimizer,
        f"activations ({need.rows} rows of up to {need.row_length:,} tokens)": need.activations,
        "the output of the frozen layers": need.hidden_states,
        "libraries": LIBRARIES,
    }
    listed = ", ".join(f"{gigabytes(size)} for {what}" for what, size in parts.items())
    raise refused(
        f"This job needs about {gigabytes(need.total)} of memory, and {gigabytes(share)} are available: {listed}."
        f" {remedy}"
    )


def smaller(hyperparameters: Hyperparameters, examples: Sequence[EncodedExample]) -> list[list[dict[str, Any]]]:
    """Return, for each hyperparameter that saves memory, smaller values of it, the largest first."""
    longest = max(len(example.input_ids) for example in examples)

    def halves(name: str, value: int) -> list[dict[str, Any]]:
        return [{name: value >> power} for power in range(1, value.bit_length())]

    return [
        [] if hyperparameters["gradient_checkpointing"] else [{"gradient_checkpointing": True}],
        halves("batch_size", hyperparameters["batch_size"]),
        halves("lora_layers", hyperparameters["lora_layers"]),
        halves("max_length", longest),
    ]


def gigabytes(size: int) -> str:
    """Return a number of bytes in words: 1.5 GB."""
    return f"{size / 1e9:,.2f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
