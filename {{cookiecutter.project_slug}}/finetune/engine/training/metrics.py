"""Measure loss and accuracy over labelled tokens and over examples, while training and on a validation file."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from typing_extensions import NotRequired, TypedDict

from finetune.engine.training import processes
from finetune.engine.training.frozen_layers import PrecomputedDataset
from finetune.engine.training.packing import Batch, labelled_examples


class StepMetrics(TypedDict):
    """The metrics of one step, as the tables `steps` and `events` hold them, under OpenAI's names.

    `valid_…` are of one batch of the validation file, at some steps; `full_valid_…` of the whole file, after each
    epoch. The sequence accuracy is the share of examples of which each labelled token is predicted. `elapsed_…` count
    what the model has been trained on so far, with repetitions.
    """

    step: int
    total_steps: int
    train_loss: float
    train_mean_token_accuracy: float
    train_sequence_accuracy: float
    elapsed_examples: int
    elapsed_tokens: NotRequired[int]  # not after the checkpoint of a version that did not count them
    valid_loss: NotRequired[float]
    valid_mean_token_accuracy: NotRequired[float]
    valid_sequence_accuracy: NotRequired[float]
    full_valid_loss: NotRequired[float]
    full_valid_mean_token_accuracy: NotRequired[float]
    full_valid_sequence_accuracy: NotRequired[float]


class Measured(NamedTuple):
    """Means over labelled tokens and over examples, and the number of all tokens of these examples."""

    loss: float
    token_accuracy: float
    sequence_accuracy: float
    tokens: int


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
        return Measured(
            round(loss / labelled, 5), round(correct / labelled, 5), round(exact / examples, 5), int(tokens)
        )


class ValidationSet:
    """The batches of a validation file; there are none without a file."""

    def __init__(self, dataset: PrecomputedDataset, batch_size: int) -> None:
        self.split_model = dataset.split_model
        indexes = range(len(dataset.examples))
        self.batches = [dataset.batch(indexes[start : start + batch_size]) for start in indexes[::batch_size]]

    def measure(self, batches: Sequence[Batch]) -> Measured:
        """Return mean loss and accuracies over these batches. Each is measured by one of the processes."""
        metrics = TokenMetrics()
        self.split_model.model.eval()
        with torch.no_grad():
            for batch in processes.share(batches):
                metrics.add(*self.split_model.labelled_logits(batch), batch)
        self.split_model.model.train()
        return metrics.read_and_reset()
