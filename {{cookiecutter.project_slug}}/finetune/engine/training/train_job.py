"""Train one fine-tuning job, from its files to its model: LoRA, by Transformers and PEFT."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainingArguments, set_seed
from transformers.utils import logging

from finetune.engine import bases
from finetune.engine.api_errors import JobError
from finetune.engine.fingerprint import check_adapter
from finetune.engine.schema import JobRow
from finetune.engine.store import Store
from finetune.engine.training.checkpoints import delete_reports_after, newest_complete_checkpoint, step_of
from finetune.engine.training.encoding import EncodedExample, encode_file
from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
from finetune.engine.training.hyperparameters import (
    BASE_LEARNING_RATE,
    Hyperparameters,
    first_trained_layer,
    lora_config,
)
from finetune.engine.training.metrics import ValidationSet
from finetune.engine.training.publishing import finish_job
from finetune.engine.training.reporting import ReportingCallback
from finetune.engine.training.trainer import JobTrainer
from finetune.engine.training.training_file import file_of_job
from finetune.engine.training.wandb_runs import WandbCallback

MAX_MICRO_BATCH = 16  # examples; larger batches are accumulated from equal parts of at most this size
MAX_EAGER_TOKENS = 512  # of the longest example, for eager attention

logging.set_verbosity_error()  # type: ignore[no-untyped-call]
logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def train_job(store: Store, job: JobRow) -> None:
    """Train `job` from its newest checkpoint until it ends, is cancelled or is paused; publish its model at the end.

    The same files, base, hyperparameters, seed, threads and dtype give the same bytes on the same machine, with or
    without interruptions. Raises JobError if the cause of a failure is the job itself.
    """
    threads, dtype = fixed_threads_and_dtype(store, job)
    hyperparameters: Hyperparameters = json.loads(job["resolved"] or "{}")
    work = store.job_folder(job["id"])
    checkpoint = newest_complete_checkpoint(work)
    parent = None if checkpoint else parent_adapter(store, job)
    base_folder = bases.folder_of(job["base"], store.home)
    torch.set_num_threads(threads)
    set_seed(job["seed"], deterministic=torch.cuda.is_available())

    examples, validation_examples = encode_files(store, job, base_folder)
    base = load_base(base_folder, dtype, [*examples, *validation_examples])
    first = first_trained_layer(base)
    # An adapter in its base's dtype needs no casts in its layers.
    model = get_peft_model(base, lora_config(base, first), autocast_adapter_dtype=False)
    arguments = training_arguments(job, hyperparameters, work)
    split_model = SplitModel(model.get_base_model(), first, examples)
    trainer = JobTrainer(model, arguments, PrecomputedDataset(split_model, examples))
    validation = ValidationSet(PrecomputedDataset(split_model, validation_examples), hyperparameters["batch_size"])
    trainer.add_callback(ReportingCallback(store, job, trainer, validation))
    if job["integrations"] and trainer.is_world_process_zero():
        trainer.add_callback(WandbCallback(store, job, hyperparameters))
    # Only now: so SplitModel computes with the same weights whether the job starts or resumes.
    if parent:
        load_adapter(model, parent)

    step = step_of(checkpoint) if checkpoint else 0
    delete_reports_after(store, job["id"], step)
    if store.set_job_status(job["id"], "running"):
        what = f"resumed from step {step}" if checkpoint else "started"
        how = f"on {arguments.device.type} in {dtype} with {threads} threads"
        store.add_event(job["id"], f"Fine-tuning job {what} {how}")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.is_world_process_zero() and trainer.state.global_step == trainer.state.max_steps:
            tokens_an_epoch = sum(len(example.input_ids) for example in examples)
            finish_job(store, job["id"], tokens_an_epoch * hyperparameters["n_epochs"])


def fixed_threads_and_dtype(store: Store, job: JobRow) -> tuple[int, str]:
    """Return the job's threads and dtype, which are chosen at its first start: a resumed job keeps them."""
    if job["threads"] is not None and job["dtype"] is not None:
        return job["threads"], job["dtype"]
    threads = int(os.environ.get("FINETUNE_ENGINE_THREADS", torch.get_num_threads()))
    dtype = bases.best_dtype()
    store.execute("UPDATE jobs SET threads = ?, dtype = ? WHERE id = ?", threads, dtype, job["id"])
    job["threads"], job["dtype"] = threads, dtype
    return threads, dtype


def encode_files(store: Store, job: JobRow, base_folder: Path) -> tuple[list[EncodedExample], list[EncodedExample]]:
    """Return the encoded examples of the job's training file and of its validation file, if it has one."""
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    context_length = AutoConfig.from_pretrained(base_folder).max_position_embeddings

    def encoded(file_id: str, param: str) -> list[EncodedExample]:
        return encode_file(tokenizer, file_of_job(store, file_id, param), context_length, param)

    validation_file = job["validation_file"]
    examples = encoded(job["training_file"], "training_file")
    return examples, encoded(validation_file, "validation_file") if validation_file else []


def load_base(folder: Path, dtype: str, examples: list[EncodedExample]) -> Any:
    """Load a base with the attention that suits these examples."""
    longest = max(len(example.input_ids) for example in examples)
    # On a CPU, the backward pass of eager attention is the faster one for short examples, and needs more memory for
    # long ones.
    eager = longest <= MAX_EAGER_TOKENS and not torch.cuda.is_available()
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager" if eager else "sdpa"
    )


def training_arguments(job: JobRow, hyperparameters: Hyperparameters, work: Path) -> TrainingArguments:
    """Return the settings of Transformers' Trainer, which saves its checkpoints in the folder `work`."""
    batch_size = hyperparameters["batch_size"]
    sizes = range(1, min(MAX_MICRO_BATCH, batch_size) + 1)
    micro_batch = max(size for size in sizes if batch_size % size == 0)
    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=hyperparameters["n_epochs"],
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=batch_size // micro_batch,
        learning_rate=BASE_LEARNING_RATE * hyperparameters["learning_rate_multiplier"],
        lr_scheduler_type="linear",
        weight_decay=0.0,
        bf16=False,  # the weights have the job's dtype already; autocast would only cast them again
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


def parent_adapter(store: Store, job: JobRow) -> Path | None:
    """Return the folder of the adapter that a job continues from; None if it starts from a base."""
    if job["base"] == job["model"]:
        return None
    parent = store.row("SELECT folder FROM models WHERE id = ?", job["model"])
    if parent is None:
        what = f"The model {job['model']!r}, which this job continues from, was deleted."
        raise JobError("model_not_found", what, "model")
    adapter = store.home / "models" / str(parent["folder"])
    check_adapter(store, adapter, job["model"])
    return adapter


def load_adapter(model: PeftModel, adapter: Path) -> None:
    """Load the weights of an adapter's folder into a model that has the same adapted layers."""
    weights = load_file(adapter / "adapter_model.safetensors")
    if weights.keys() != get_peft_model_state_dict(model).keys():
        # PEFT would silently leave out the layers that this job does not train.
        what = "The adapter of this job's model is on other layers than this engine trains. Start from a base model."
        raise JobError("model_not_found", what, "model")
    set_peft_model_state_dict(model, weights)
