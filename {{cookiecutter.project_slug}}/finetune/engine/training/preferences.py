"""Train on preferences by DPO: the margin of the preferred answer over the other one grows, against where it started.

Source: Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
equation 7. The loss is this engine's own and not TRL's DPOTrainer, because the trainer here packs answers without
padding, computes frozen layers once, and resumes to the same bytes. tests/engine/test_dpo.py compares it with the
equation computed by Transformers alone.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.engine.training import processes
from finetune.engine.training.encoding import EncodedExample
from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
from finetune.engine.training.job_folder import CHECKPOINTS
from finetune.engine.training.metrics import Measured
from finetune.engine.training.packing import Batch, labelled_examples

REFERENCE = "reference.json"  # in a checkpoint: the margins at the start of the job
CHUNK = 8  # preferences of which the margins at the start are computed at once


class PreferenceDataset:
    """The preferences of one file: `answers` has the preferred answer of each, followed by its other one.

    `reference` is set before training: by how much the log-probability of the preferred answer is above that of the
    other one, in the model from which training starts.
    """

    def __init__(self, split_model: SplitModel, answers: Sequence[EncodedExample], check: Callable[[], None]) -> None:
        self.split_model, self.check = split_model, check
        self.answers = PrecomputedDataset(split_model, answers, check)
        self.examples = list(zip(answers[::2], answers[1::2], strict=True))
        self.groups = self.answers.groups[::2]
        self.reference: list[float] = []

    def batch(self, indexes: Sequence[int]) -> Batch:
        """Pack both answers of the preferences of these indexes."""
        both = [2 * index + answer for index in indexes for answer in (0, 1)]
        order = sorted(both, key=self.answers.groups.__getitem__)  # as the packed batch has them
        place = {index: position for position, index in enumerate(order)}
        batch = self.answers.batch(order)
        batch["pairs"] = torch.tensor([[place[2 * index], place[2 * index + 1]] for index in indexes])
        batch["reference"] = torch.tensor([self.reference[index] for index in indexes] if self.reference else [])
        return batch

    def compute_reference(self) -> None:
        """Compute the margins by the model as it is. The processes share the work."""
        indexes = range(len(self.examples))
        chunks = [indexes[start : start + CHUNK] for start in indexes[::CHUNK]]
        found = [0.0] * len(indexes)
        with torch.no_grad():
            for chunk, is_own in processes.share_evenly(chunks):
                self.check()
                batch = self.batch(chunk)
                margins = margins_of(*self.split_model.labelled_logits(batch), batch)
                if is_own:
                    found[chunk.start : chunk.stop] = margins.tolist()
        self.reference = processes.total(*found)


def margins_of(logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return by how much each preferred answer is more probable than the other one, in logarithms, (preferences,)."""
    logprobs = -F.cross_entropy(logits, targets, reduction="none")
    _, examples = torch.unique(labelled_examples(batch).to(logits.device), return_inverse=True)
    sums = torch.zeros(len(batch["lengths"]), device=logits.device).index_add(0, examples, logprobs)
    preferred, other = batch["pairs"].to(logits.device).T
    return sums[preferred] - sums[other]


class PreferenceMetrics:
    """The loss, the margin of rewards and the share of preferences with a positive margin, summed until they are read.

    The reward of an answer is `beta` times the change of its log-probability since the start.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self._reset()

    def _reset(self) -> None:
        self.loss, self.margin, self.right, self.preferences, self.tokens = 0.0, 0.0, 0, 0, 0

    def add(self, logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Add the preferences of a batch, and return the sum of their losses, for backward."""
        reference = batch["reference"].to(logits.device)
        margins = self.beta * (margins_of(logits, targets, batch) - reference)
        loss = -F.logsigmoid(margins).sum()
        self.loss += loss.item()
        self.margin += margins.sum().item()
        self.right += int((margins > 0).sum())
        self.preferences += len(margins)
        self.tokens += int(batch["lengths"].sum())
        return loss

    def read_and_reset(self) -> Measured:
        """Return the means of all processes since the last call, rounded as they are published."""
        loss, margin, right, count, tokens = processes.total(
            self.loss, self.margin, self.right, self.preferences, self.tokens
        )
        self._reset()
        means = {"loss": loss, "rewards_accuracy": right, "rewards_margin": margin}
        return Measured({name: round(value / max(1, count), 5) for name, value in means.items()}, int(tokens))


def set_reference(datasets: Sequence[PreferenceDataset], checkpoint: Path | None) -> None:
    """Set the margins of the start of the job: computed, or read from the checkpoint that it resumes from."""
    if checkpoint is None:
        for dataset in datasets:
            dataset.compute_reference()
        return
    stored = json.loads((checkpoint / REFERENCE).read_bytes())
    for dataset, reference in zip(datasets, stored, strict=True):
        dataset.reference = reference


class KeepReference(TrainerCallback):
    """Writes the margins of the start into each checkpoint, whose model has others."""

    def __init__(self, folder: Path, datasets: Sequence[PreferenceDataset]) -> None:
        self.folder, self.datasets = folder, datasets

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if processes.rank() == 0:
            path = self.folder / CHECKPOINTS / f"checkpoint-{state.global_step}" / REFERENCE
            path.write_text(json.dumps([dataset.reference for dataset in self.datasets]), encoding="utf-8")
