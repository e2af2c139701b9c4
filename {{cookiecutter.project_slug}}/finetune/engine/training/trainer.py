"""Transformers' Trainer with the loss of this engine: over labelled positions, from precomputed hidden states."""

from pathlib import Path
from typing import Any

from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from finetune.engine.training.frozen_layers import PrecomputedDataset
from finetune.engine.training.metrics import TokenMetrics


class JobTrainer(Trainer):
    """A Trainer whose training set is the indexes of a dataset's examples, which the collator packs into batches."""

    def __init__(self, model: PeftModel, arguments: TrainingArguments, dataset: PrecomputedDataset) -> None:
        self.split_model, self.token_metrics = dataset.split_model, TokenMetrics()
        indexes = list(range(len(dataset.examples)))
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=indexes,
            data_collator=dataset.batch,  # type: ignore[arg-type]  # a TypedDict is a dict
        )
        self.model_accepts_loss_kwargs = True  # then the parts of an accumulated batch are weighted by their tokens

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits, targets = self.split_model.labelled_logits(inputs)
        loss = self.token_metrics.add(logits, targets)
        return loss / (len(targets) if num_items_in_batch is None else num_items_in_batch)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # Trainer's own loading turns the adapter into float32: a resumed job would compute in another dtype.
        weights = load_file(Path(resume_from_checkpoint) / "adapter_model.safetensors")
        set_peft_model_state_dict(self.model, weights)
