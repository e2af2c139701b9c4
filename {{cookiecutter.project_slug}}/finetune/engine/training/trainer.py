"""One fine-tuning job, from its files to its model: LoRA on the top eighth of the layers, by Transformers and PEFT."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from finetune.engine import bases
from finetune.engine.api_errors import JobError
from finetune.engine.store import UNFINISHED, Row, Store
from finetune.engine.training.encoding import Encoded, encode, read_examples
from finetune.engine.training.frozen_layers import Batch, Corpus, Trunk
from finetune.engine.training.publishing import COMPLETE, finish, forget_after, newest_complete, publish, step_of

BASE_RATE = 1e-3  # what learning_rate_multiplier multiplies; it falls linearly to 0
RANK = 16
LINEAR_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MICRO_BATCH = 16  # larger batches are accumulated from equal parts of at most this size
SHORT = 512  # tokens
VALID_POINTS = 20  # a batch of the validation file is measured about this often; the whole file after each epoch

logging.set_verbosity_error()
logging.disable_progress_bar()


def train(store: Store, job: Row) -> None:
    """Train `job` to its end, a cancel or a pause, from its newest checkpoint on; at the end the store holds its model.

    The same files, base, hyperparameters, seed, threads and dtype give the same bytes on the same machine, with or
    without interruptions. Raises JobError where the job itself is at fault.
    """
    job = settle_machine(store, job)
    hyperparameters = json.loads(job["resolved"])
    work = store.job_folder(job["id"])
    resume = newest_complete(work)
    adapter = None if resume else parent_adapter(store, job)
    folder = bases.folder_of(job["base"], store.home)
    torch.set_num_threads(job["threads"])
    set_seed(job["seed"], deterministic=torch.cuda.is_available())

    tokenizer = AutoTokenizer.from_pretrained(folder)
    context = AutoConfig.from_pretrained(folder).max_position_embeddings
    examples = encoded(store, tokenizer, context, job["training_file"], "training_file")
    valid = (
        encoded(store, tokenizer, context, job["validation_file"], "validation_file") if job["validation_file"] else []
    )
    longest = max(len(example.input_ids) for example in [*examples, *valid])
    # Plain attention is the faster of the two backwards for short examples on a CPU, and the hungrier for long ones.
    attention = "eager" if longest <= SHORT and not torch.cuda.is_available() else "sdpa"
    base = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, job["dtype"]), attn_implementation=attention
    )
    first = first_layer(base)
    # An adapter in the dtype of its base: no casts to and fro at each of its layers.
    model = get_peft_model(base, lora(base, first), autocast_adapter_dtype=False)

    batch_size = hyperparameters["batch_size"]
    micro = max(size for size in range(1, min(MICRO_BATCH, batch_size) + 1) if batch_size % size == 0)
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=hyperparameters["n_epochs"],
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch_size // micro,
        learning_rate=BASE_RATE * hyperparameters["learning_rate_multiplier"],
        lr_scheduler_type="linear",
        weight_decay=0.0,
        bf16=False,  # the weights are in the job's dtype already; autocast would only cast them again
        seed=job["seed"],
        data_seed=job["seed"],
        save_strategy="epoch",
        save_total_limit=2,
        logging_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    trunk = Trunk(model.get_base_model(), first, examples)
    trainer = JobTrainer(model, arguments, Corpus(trunk, examples))
    trainer.add_callback(Reporter(store, job, trainer, Measure(Corpus(trunk, valid), batch_size)))
    # Only now: the trunk then finds the same model whether the job begins or resumes.
    if adapter:
        start_from(model, adapter)
    forget_after(store, job["id"], step_of(resume))
    if store.set_job_status(job["id"], "running"):
        how = f"on {arguments.device.type} in {job['dtype']} with {job['threads']} threads"
        store.add_event(
            job["id"], f"Fine-tuning job {'resumed from step ' + str(step_of(resume)) if resume else 'started'} {how}"
        )
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if trainer.is_world_process_zero() and trainer.state.global_step == trainer.state.max_steps:
            finish(store, job["id"], sum(len(e.input_ids) for e in examples) * hyperparameters["n_epochs"])


def settle_machine(store: Store, job: Row) -> Row:
    """The job with the threads and the dtype that it keeps for life: a resumed job computes as it began."""
    if job["threads"] is None:
        threads = int(os.environ.get("FINETUNE_ENGINE_THREADS", torch.get_num_threads()))
        store.execute("UPDATE jobs SET threads = ?, dtype = ? WHERE id = ?", threads, bases.best_dtype(), job["id"])
        return store.job(job["id"]) or job
    return job


def parent_adapter(store: Store, job: Row) -> Path | None:
    """The folder of the adapter that a job goes on from, where it was asked for a fine-tuned model."""
    if job["base"] == job["model"]:
        return None
    parent = store.row("SELECT folder FROM models WHERE id = ?", job["model"])
    if parent is None:
        raise JobError("model_not_found", f"The model {job['model']!r}, which this job starts from, is gone.", "model")
    return store.home / "models" / str(parent["folder"])


def start_from(model: PeftModel, adapter: Path) -> None:
    """Give the model's adapter the weights of another."""
    weights = load_file(adapter / "adapter_model.safetensors")
    if weights.keys() != get_peft_model_state_dict(model).keys():
        # This job would leave some layers of that adapter out, without a word.
        raise JobError("model_not_found", "That model's adapter was trained on other layers than this job's.", "model")
    set_peft_model_state_dict(model, weights)


def first_layer(base: Any) -> int:
    """The lowest layer that is trained, counted from 0: the top eighth is, rounded up.

    Few are enough and cost the least: of SmolLM2's 30 layers the top 3, 4 and 6 got 0.876, 0.860 and 0.865 of the
    starter's test rows right.
    """
    layers = int(base.config.num_hidden_layers)
    return layers - -(-layers // 8)


def lora(base: Any, first: int) -> LoraConfig:
    """LoRA of rank 16 on the linear layers from layer `first` up."""
    names = {name.rsplit(".", 1)[-1] for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)}
    targets = [name for name in LINEAR_LAYERS if name in names]
    if not targets:
        raise JobError("model_not_found", f"This base has no layers of the names {', '.join(LINEAR_LAYERS)}.", "model")
    layers = list(range(first, base.config.num_hidden_layers))
    return LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=targets, layers_to_transform=layers, task_type="CAUSAL_LM"
    )


def encoded(store: Store, tokenizer: Any, context: int, file_id: str, param: str) -> list[Encoded]:
    return [encode(tokenizer, messages, context) for messages in read_examples(store.file_path(file_id), param)]


class Sums:
    """Loss and token accuracy over labelled tokens, added up until they are read."""

    def __init__(self) -> None:
        self.loss, self.correct, self.tokens = 0.0, 0, 0

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The summed cross-entropy of these tokens, for backward."""
        loss = F.cross_entropy(logits, targets, reduction="sum")
        self.loss += loss.item()
        self.correct += int((logits.argmax(-1) == targets).sum())
        self.tokens += len(targets)
        return loss

    def read(self) -> tuple[float, float]:
        """Mean loss and accuracy since the last reading, rounded as they are published."""
        tokens = max(1, self.tokens)
        result = round(self.loss / tokens, 5), round(self.correct / tokens, 5)
        self.__init__()  # type: ignore[misc]
        return result


class JobTrainer(Trainer):
    """Transformers' Trainer over the trunk: it sees indexes of examples, and the loss of labelled positions."""

    def __init__(self, model: PeftModel, arguments: TrainingArguments, corpus: Corpus) -> None:
        self.trunk, self.sums = corpus.trunk, Sums()
        indexes = list(range(len(corpus.examples)))
        super().__init__(model=model, args=arguments, train_dataset=indexes, data_collator=corpus.batch)
        self.model_accepts_loss_kwargs = True  # so that accumulated parts are weighed by their tokens

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits, targets = self.trunk.labelled_logits(inputs)
        loss = self.sums.add(logits, targets)
        return loss / (len(targets) if num_items_in_batch is None else num_items_in_batch)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # Trainer's own loading turns the adapter into float32, and a resumed job would go on in other numbers.
        weights = load_file(Path(resume_from_checkpoint) / "adapter_model.safetensors")
        set_peft_model_state_dict(self.model, weights)


class Measure:
    """Validation loss and token accuracy: of one batch, in turn, or of the whole file."""

    def __init__(self, corpus: Corpus, batch_size: int) -> None:
        self.trunk = corpus.trunk
        indexes = range(len(corpus.examples))
        self.batches = [corpus.batch(indexes[start : start + batch_size]) for start in indexes[::batch_size]]

    def of(self, batches: Sequence[Batch]) -> tuple[float, float]:
        sums = Sums()
        self.trunk.model.eval()
        with torch.no_grad():
            for batch in batches:
                sums.add(*self.trunk.labelled_logits(batch))
        self.trunk.model.train()
        return sums.read()


class Reporter(TrainerCallback):
    """Tells the store of each step and each checkpoint, and stops the trainer when the job is cancelled or paused."""

    def __init__(self, store: Store, job: Row, trainer: JobTrainer, measure: Measure) -> None:
        self.store, self.job, self.trainer, self.measure = store, job, trainer, measure

    def ends_epoch(self, args: TrainingArguments, state: TrainerState) -> bool:
        return bool(state.global_step % (state.max_steps // int(args.num_train_epochs)) == 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step, total = state.global_step, state.max_steps
        loss, accuracy = self.trainer.sums.read()
        data: Row = {"step": step, "total_steps": total, "train_loss": loss, "train_mean_token_accuracy": accuracy}
        message = f"Step {step}/{total}: training loss={loss:.2f}"
        batches = self.measure.batches
        every = max(1, total // VALID_POINTS)
        if batches and step % every == 0:
            one = batches[step // every % len(batches)]
            data["valid_loss"], data["valid_mean_token_accuracy"] = self.measure.of([one])
            message += f", validation loss={data['valid_loss']:.2f}"
        if batches and self.ends_epoch(args, state):
            data["full_valid_loss"], data["full_valid_mean_token_accuracy"] = self.measure.of(batches)
            message += f", full validation loss={data['full_valid_loss']:.2f}"
        if state.is_world_process_zero:
            self.store.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", self.job["id"], step, json.dumps(data))
            self.store.add_event(self.job["id"], message, data=data, step=step)
        row = self.store.job(self.job["id"])
        if row is None or row["status"] not in UNFINISHED:
            control.should_training_stop = True  # with a checkpoint of this step, as at the end of an epoch
        elif row["status"] == "queued":  # paused and resumed since the last step
            self.store.set_job_status(self.job["id"], "running")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = self.store.job_folder(self.job["id"]) / f"checkpoint-{state.global_step}"
            if self.ends_epoch(args, state):
                publish(self.store, self.job, folder, state.global_step, state.global_step == state.max_steps)
            (folder / COMPLETE).touch()
            self.store.execute("UPDATE jobs SET starts = 0 WHERE id = ?", self.job["id"])
