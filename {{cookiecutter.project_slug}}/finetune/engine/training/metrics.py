"""Measure loss and token accuracy over labelled tokens, while training and on a validation file."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from typing_extensions import NotRequired, TypedDict

from finetune.engine.training import processes
from finetune.engine.training.frozen_layers import PrecomputedDataset
from finetune.engine.training.packing import Batch


class StepMetrics(TypedDict):
    """The metrics of one step, as the tables `steps` and `events` hold them, under OpenAI's names.

    `valid_…` are of one batch of the validation file, at some steps; `full_valid_…` of the whole file, after each
    epoch.
    """

    step: int
    total_steps: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: NotRequired[float]
    valid_mean_token_accuracy: NotRequired[float]
    full_valid_loss: NotRequired[float]
    full_valid_mean_token_accuracy: NotRequired[float]


class TokenMetrics:
    """Loss and token accuracy, summed over labelled tokens until they are read."""

    def __init__(self) -> None:
        self.loss, self.correct, self.tokens = 0.0, 0, 0

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Add tokens, and return the sum of their cross-entropies, for backward."""
        loss = F.cross_entropy(logits, targets, reduction="sum")
        self.loss += loss.item()
        self.correct += int((logits.argmax(-1) == targets).sum())
        self.tokens += len(targets)
        return loss

    def read_and_reset(self) -> tuple[float, float]:
        """Return mean loss and accuracy of all processes since the last call, rounded as they are published."""
        loss, correct, tokens = processes.total(self.loss, self.correct, self.tokens)
        tokens = max(1, tokens)
        means = round(loss / tokens, 5), round(correct / tokens, 5)
        self.loss, self.correct, self.tokens = 0.0, 0, 0
        return means


class ValidationSet:
    """The batches of a validation file; there are none without a file."""

    def __init__(self, dataset: PrecomputedDataset, batch_size: int) -> None:
        self.split_model = dataset.split_model
        indexes = range(len(dataset.examples))
        self.batches = [dataset.batch(indexes[start : start + batch_size]) for start in indexes[::batch_size]]

    def measure(self, batches: Sequence[Batch]) -> tuple[float, float]:
        """Return mean loss and token accuracy over these batches. Each is measured by one of the processes."""
        metrics = TokenMetrics()
        self.split_model.model.eval()
        with torch.no_grad():
            for batch in processes.share(batches):
                metrics.add(*self.split_model.labelled_logits(batch))
        self.split_model.model.train()
        return metrics.read_and_reset()
