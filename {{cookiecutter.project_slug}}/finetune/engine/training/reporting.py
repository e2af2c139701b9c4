"""Report each step and each checkpoint of a job in its folder, and stop training when that is asked for."""

import math
from pathlib import Path
from typing import Any, cast

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.engine.api_errors import JobError
from finetune.engine.training import processes
from finetune.engine.training.checkpoints import mark_complete
from finetune.engine.training.job_folder import CHECKPOINTS, add_event, must_stop
from finetune.engine.training.metrics import StepMetrics, ValidationSet
from finetune.engine.training.trainer import JobTrainer

VALIDATIONS = 20  # a job measures one batch of the validation file about this often; the whole file after each epoch


class ReportingCallback(TrainerCallback):
    """Writes steps and checkpoints as events, and stops the trainer when its folder asks for that.

    `last` has the metrics of the last step.
    """

    def __init__(self, folder: Path, trainer: JobTrainer, validation: ValidationSet) -> None:
        self.folder, self.trainer, self.validation = folder, trainer, validation
        self.last: StepMetrics | None = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.last = self._measure(args, state)
        refuse_divergence(self.last)
        if processes.rank() == 0:
            add_event(self.folder, "step", metrics=self.last)
        # All processes must stop at the same step, so the first one looks for all.
        if processes.total(processes.rank() == 0 and must_stop(self.folder))[0]:
            control.should_training_stop = True  # Trainer saves a checkpoint of this step, as at the end of an epoch

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        processes.wait_for_all()  # each has written its part
        if processes.rank() == 0:
            is_last = state.global_step == state.max_steps
            # Before the mark: what is marked is not trained again, and must be in the events.
            add_event(
                self.folder, "checkpoint", step=state.global_step, ends_epoch=ends_epoch(args, state), is_last=is_last
            )
            mark_complete(self.folder / CHECKPOINTS / f"checkpoint-{state.global_step}")

    def _measure(self, args: TrainingArguments, state: TrainerState) -> StepMetrics:
        step, total = state.global_step, state.max_steps
        train = self.trainer.metrics.read_and_reset()
        metrics: dict[str, float] = {
            "step": step,
            "total_steps": total,
            **train.named("train"),
            "elapsed_examples": self._elapsed_examples(args, state),
        }
        if step == 1 or state.num_input_tokens_seen:
            state.num_input_tokens_seen += train.tokens  # which Trainer saves in its checkpoints
            metrics["elapsed_tokens"] = state.num_input_tokens_seen
        batches = self.validation.batches
        interval = max(1, total // VALIDATIONS)
        if batches and step % interval == 0:
            batch = batches[step // interval % len(batches)]
            metrics |= self.validation.measure([batch]).named("valid")
        if batches and ends_epoch(args, state):
            metrics |= self.validation.measure(batches).named("full_valid")
        return cast("StepMetrics", metrics)

    def _elapsed_examples(self, args: TrainingArguments, state: TrainerState) -> int:
        """Return how many examples the model has been trained on: an epoch's last batch may be smaller."""
        examples = len(self.trainer.dataset.examples)
        batch_size = self.trainer.args.per_device_train_batch_size * args.gradient_accumulation_steps
        epochs, steps = divmod(state.global_step, state.max_steps // int(args.num_train_epochs))
        return epochs * examples + min(examples, steps * batch_size)


def refuse_divergence(metrics: StepMetrics) -> None:
    """Raise JobError if a measured value is not a finite number: the model is useless, and JSON has no such number."""
    values: dict[str, Any] = dict(metrics)
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        what = f"The training diverged: {wrong[0]} at step {metrics['step']} is not a number."
        raise JobError(
            "training_diverged", f"{what} Use a lower learning_rate_multiplier or learning_rate.", "hyperparameters"
        )


def ends_epoch(args: TrainingArguments, state: TrainerState) -> bool:
    """Return whether the current step is the last of an epoch."""
    return bool(state.global_step % (state.max_steps // int(args.num_train_epochs)) == 0)
