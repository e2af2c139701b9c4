"""Transformers' Trainer with the losses of this engine: over labelled positions, from precomputed hidden states."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from finetune.engine.training import processes
from finetune.engine.training.encoding import IGNORE_INDEX
from finetune.engine.training.metrics import MethodDataset, MethodMetrics
from finetune.engine.training.packing import Batch
from finetune.engine.training.sharding import add_up_gradients


class JobTrainer(Trainer):
    """A Trainer whose training set is the indexes of a dataset's examples, which the collator packs into batches.

    Several processes go through the same batches, and each trains on its part of every batch.
    """

    def __init__(
        self,
        model: PeftModel,
        arguments: TrainingArguments,
        dataset: MethodDataset,
        metrics: MethodMetrics,
        is_sharded: bool = False,
    ) -> None:
        self.split_model, self.metrics, self.is_sharded = dataset.split_model, metrics, is_sharded
        self.dataset = dataset
        indexes = list(range(len(dataset.examples)))
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=indexes,
            data_collator=self.own_part,  # type: ignore[arg-type]  # a TypedDict is a dict
        )
        self.model_accepts_loss_kwargs = True  # then the parts of an accumulated batch are weighted by their tokens
        if processes.count() > 1:
            # PyTorch adds up the gradients of all processes only if the forward pass goes through its own wrapper.
            model.forward = self.split_model.labelled_logits  # type: ignore[method-assign]

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        # What is wrapped already, Trainer takes as it is.
        wrapped = add_up_gradients(model) if self.is_sharded and training and model is self.model else model
        return super()._wrap_model(wrapped, training, dataloader)

    def own_part(self, indexes: Sequence[int]) -> Batch:
        """Pack this process's part of a batch. If the batch is too small for all, it has a part without labels."""
        together = sorted(indexes, key=self.dataset.groups.__getitem__)
        own = processes.share(together)
        batch = self.dataset.batch(own or together[:1])
        if not own:
            batch["labels"].fill_(IGNORE_INDEX)
            batch["lengths"] = batch["lengths"][:0]
            if "pairs" in batch:
                batch["pairs"], batch["reference"] = batch["pairs"][:0], batch["reference"][:0]
        return batch

    def get_batch_samples(self, *arguments: Any) -> Any:
        """Return the parts of the next batch, and what their losses are divided by: its labelled tokens or pairs."""
        parts, items = super().get_batch_samples(*arguments)
        if parts and "pairs" in parts[0]:
            items = torch.tensor(processes.total(sum(len(part["pairs"]) for part in parts))[0])
        return parts, items

    def get_train_dataloader(self) -> Any:
        if processes.count() == 1:
            return super().get_train_dataloader()
        # Accelerate would give each process other batches than one process trains on.
        batches: Any = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_size=self._train_batch_size,
            sampler=self._get_train_sampler(),
            collate_fn=self.own_part,
        )
        return prepare_data_loader(
            batches, num_processes=1, process_index=0, use_seedable_sampler=True, data_seed=self.args.data_seed
        )

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        is_wrapped = processes.count() > 1
        logits, targets = model(inputs) if is_wrapped else self.split_model.labelled_logits(inputs)
        loss = self.metrics.add(logits, targets, inputs)
        loss = loss / (len(targets) if num_items_in_batch is None else num_items_in_batch)
        # `num_items_in_batch` counts for all processes together; the wrapper takes the mean of their gradients.
        return loss * processes.count() if is_wrapped else loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: nobody reads this number, for which Trainer counts all parameters at each step."""
        return 0

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # Trainer's own loading turns the adapter into float32: a resumed job would compute in another dtype.
        weights = load_file(Path(resume_from_checkpoint) / "adapter_model.safetensors")
        set_peft_model_state_dict(self.model, weights)
