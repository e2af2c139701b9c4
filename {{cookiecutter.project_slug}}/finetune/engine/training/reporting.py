"""Report each step and each checkpoint of a job to the store, and stop training when the job's status says so."""

import json
import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.engine.api_errors import JobError
from finetune.engine.schema import JobRow
from finetune.engine.store import UNFINISHED, Store
from finetune.engine.training.checkpoints import mark_complete
from finetune.engine.training.metrics import StepMetrics, ValidationSet
from finetune.engine.training.publishing import publish_checkpoint
from finetune.engine.training.trainer import JobTrainer

VALIDATIONS = 20  # a job measures one batch of the validation file about this often; the whole file after each epoch


class ReportingCallback(TrainerCallback):
    """Writes steps, events and checkpoints to the store; stops the trainer when the job is cancelled or paused."""

    def __init__(self, store: Store, job: JobRow, trainer: JobTrainer, validation: ValidationSet) -> None:
        self.store, self.job, self.trainer, self.validation = store, job, trainer, validation

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        metrics = self._measure(args, state)
        refuse_divergence(metrics)
        if state.is_world_process_zero:
            self._report(metrics)
        row = self.store.job(self.job["id"])
        if row is None or row["status"] not in UNFINISHED:
            control.should_training_stop = True  # Trainer saves a checkpoint of this step, as at the end of an epoch
        elif row["status"] == "queued":  # paused and resumed since the last step
            self.store.set_job_status(self.job["id"], "running")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = self.store.job_folder(self.job["id"]) / f"checkpoint-{state.global_step}"
            if ends_epoch(args, state):
                is_last = state.global_step == state.max_steps
                publish_checkpoint(self.store, self.job, folder, state.global_step, is_last)
            mark_complete(folder)
            self.store.execute("UPDATE jobs SET starts = 0 WHERE id = ?", self.job["id"])

    def _measure(self, args: TrainingArguments, state: TrainerState) -> StepMetrics:
        step, total = state.global_step, state.max_steps
        loss, accuracy = self.trainer.token_metrics.read_and_reset()
        metrics: StepMetrics = {
            "step": step,
            "total_steps": total,
            "train_loss": loss,
            "train_mean_token_accuracy": accuracy,
        }
        batches = self.validation.batches
        interval = max(1, total // VALIDATIONS)
        if batches and step % interval == 0:
            batch = batches[step // interval % len(batches)]
            metrics["valid_loss"], metrics["valid_mean_token_accuracy"] = self.validation.measure([batch])
        if batches and ends_epoch(args, state):
            full_loss, full_accuracy = self.validation.measure(batches)
            metrics["full_valid_loss"], metrics["full_valid_mean_token_accuracy"] = full_loss, full_accuracy
        return metrics

    def _report(self, metrics: StepMetrics) -> None:
        step = metrics["step"]
        message = f"Step {step}/{metrics['total_steps']}: training loss={metrics['train_loss']:.2f}"
        if "valid_loss" in metrics:
            message += f", validation loss={metrics['valid_loss']:.2f}"
        if "full_valid_loss" in metrics:
            message += f", full validation loss={metrics['full_valid_loss']:.2f}"
        self.store.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", self.job["id"], step, json.dumps(metrics))
        self.store.add_event(self.job["id"], message, data=dict(metrics), step=step)


def refuse_divergence(metrics: StepMetrics) -> None:
    """Raise JobError if a measured value is not a finite number: the model is useless, and JSON has no such number."""
    values: dict[str, Any] = dict(metrics)
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        what = f"The training diverged: {wrong[0]} at step {metrics['step']} is not a number."
        raise JobError("training_diverged", f"{what} Use a lower learning_rate_multiplier.", "hyperparameters")


def ends_epoch(args: TrainingArguments, state: TrainerState) -> bool:
    """Return whether the current step is the last of an epoch."""
    return bool(state.global_step % (state.max_steps // int(args.num_train_epochs)) == 0)
