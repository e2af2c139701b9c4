"""Measure loss and accuracy over labelled tokens and over examples, while training and on a validation file."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from typing_extensions import NotRequired, TypedDict

from finetune.engine.training import processes
from finetune.engine.training.frozen_layers import SplitModel
from finetune.engine.training.packing import Batch, labelled_examples


class StepMetrics(TypedDict):
    """The metrics of one step, as the tables `steps` and `events` hold them, under OpenAI's names.

    `valid_…` are of one batch of the validation file, at some steps; `full_valid_…` of the whole file, after each
    epoch. The sequence accuracy is the share of examples of which each labelled token is predicted. `elapsed_…` count
    what the model has been trained on so far, with repetitions. Instead of accuracies, jobs on preferences have
    `…_rewards_accuracy` and `…_rewards_margin`.
    """

    step: int
    total_steps: int
    train_loss: float
    train_mean_token_accuracy: NotRequired[float]
    train_sequence_accuracy: NotRequired[float]
    train_rewards_accuracy: NotRequired[float]
    train_rewards_margin: NotRequired[float]
    elapsed_examples: int
    elapsed_tokens: NotRequired[int]  # not after the checkpoint of a version that did not count them
    valid_loss: NotRequired[float]
    valid_mean_token_accuracy: NotRequired[float]
    valid_sequence_accuracy: NotRequired[float]
    full_valid_loss: NotRequired[float]
    full_valid_mean_token_accuracy: NotRequired[float]
    full_valid_sequence_accuracy: NotRequired[float]
    valid_rewards_accuracy: NotRequired[float]
    valid_rewards_margin: NotRequired[float]
    full_valid_rewards_accuracy: NotRequired[float]
    full_valid_rewards_margin: NotRequired[float]


class Measured(NamedTuple):
    """Means over labelled tokens or over examples, by their names, and the number of all tokens of these examples."""

    means: dict[str, float]
    tokens: int

    def named(self, prefix: str) -> dict[str, float]:
        """Return the means under their names in `StepMetrics`, such as `train_loss`."""
        return {f"{prefix}_{name}": mean for name, mean in self.means.items()}


class MethodMetrics(Protocol):
    """What a method measures of batches, summed until it is read."""

    def add(self, logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Add a batch, and return the sum of its losses, for backward."""

    def read_and_reset(self) -> Measured:
        """Return the means of all processes since the last call."""


class MethodDataset(Protocol):
    """The examples of one file, as a method packs them into batches."""

    split_model: SplitModel
    examples: Sequence[Any]
    groups: list[int]

    def batch(self, indexes: Sequence[int]) -> Batch:
        """Pack the examples of these indexes."""


class TokenMetrics:
    """Loss and accuracy, summed over labelled tokens and over examples until they are read."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.loss, self.correct, self.labelled = 0.0, 0, 0
        self.exact, self.examples, self.tokens = 0, 0, 0

    def add(self, logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Add the labelled tokens of a batch, and return the sum of their cross-entropies, for backward."""
        loss = F.cross_entropy(logits, targets, reduction="sum")
        is_correct, examples = logits.argmax(-1) == targets, labelled_examples(batch).to(targets.device)
        self.loss += loss.item()
        self.correct += int(is_correct.sum())
        self.labelled += len(targets)
        self.examples += len(batch["lengths"])
        self.exact += len(batch["lengths"]) - len(torch.unique(examples[~is_correct]))
        self.tokens += int(batch["lengths"].sum())
        return loss

    def read_and_reset(self) -> Measured:
        """Return the means of all processes since the last call, rounded as they are published."""
        loss, correct, labelled, exact, examples, tokens = processes.total(
            self.loss, self.correct, self.labelled, self.exact, self.examples, self.tokens
        )
        self._reset()
        labelled, examples = max(1, labelled), max(1, examples)
        means = {
            "loss": loss / labelled,
            "mean_token_accuracy": correct / labelled,
            "sequence_accuracy": exact / examples,
        }
        return Measured({name: round(mean, 5) for name, mean in means.items()}, int(tokens))


class ValidationSet:
    """The batches of a validation file; there are none without a file."""

    def __init__(self, dataset: MethodDataset, batch_size: int, new_metrics: Callable[[], MethodMetrics]) -> None:
        self.split_model, self.new_metrics = dataset.split_model, new_metrics
        indexes = range(len(dataset.examples))
        self.batches = [dataset.batch(indexes[start : start + batch_size]) for start in indexes[::batch_size]]

    def measure(self, batches: Sequence[Batch]) -> Measured:
        """Return the means over these batches. Each is measured by one of the processes."""
        metrics = self.new_metrics()
        self.split_model.model.eval()
        with torch.no_grad():
            for batch, is_own in processes.share_evenly(batches):
                outputs = self.split_model.labelled_logits(batch)
                if is_own:
                    metrics.add(*outputs, batch)
        self.split_model.model.train()
        return metrics.read_and_reset()
