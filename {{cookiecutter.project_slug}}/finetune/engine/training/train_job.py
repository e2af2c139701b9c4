"""Train the job of a folder, from its files to its adapter: LoRA, by Transformers and PEFT."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import get_peft_model
from transformers import AutoTokenizer, TrainingArguments, set_seed
from transformers.utils import logging

from finetune.engine import allocator
from finetune.engine.api_errors import JobError
from finetune.engine.context_length import context_length_of
from finetune.engine.devices import available_bytes, best_device, best_dtype
from finetune.engine.gguf_conversion import convert_gguf
from finetune.engine.training import job_folder, memory, processes
from finetune.engine.training.base_model import (
    first_trained_layer,
    load_adapter,
    load_base,
    lora_config,
    recompute_activations,
    text_config,
)
from finetune.engine.training.checkpoints import newest_complete_checkpoint, step_of
from finetune.engine.training.encoding import EncodedExample, encode_file, trained_tokens
from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
from finetune.engine.training.hyperparameters import (
    Hyperparameters,
    resolve,
    resolve_with_answers,
    resolve_with_base,
)
from finetune.engine.training.job_folder import Job, Result
from finetune.engine.training.metrics import MethodMetrics, TokenMetrics, ValidationSet
from finetune.engine.training.preferences import KeepReference, PreferenceDataset, PreferenceMetrics, set_reference
from finetune.engine.training.reporting import ReportingCallback
from finetune.engine.training.sharding import shard_layers
from finetune.engine.training.trainer import JobTrainer
from finetune.engine.training.wandb_runs import WandbCallback

logging.set_verbosity_error()  # type: ignore[no-untyped-call]
logging.disable_progress_bar()  # type: ignore[no-untyped-call]

NO_SHARDED_QUANTIZE = (
    "Quantized weights cannot be divided among processes by FSDP. Leave quantize out, or use torchrun."
)


def train_job(folder: Path) -> Result:
    """Train the job of a folder from its newest checkpoint, until it ends or is asked to stop.

    The same files, base, hyperparameters, seed, processes, threads and dtype give the same bytes on the same machine,
    with or without interruptions. Raises JobError if the cause of a failure is the job itself.
    """
    job = job_folder.read_job(folder)
    is_sharded = processes.join(folder, job)
    threads, dtype = processes.threads(job), job["dtype"] or best_dtype()
    checkpoint = newest_complete_checkpoint(folder)
    processes.wait_for_all()  # before one of them saves another checkpoint
    torch.set_num_threads(threads)
    if processes.count() > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # without it, accelerate sets another number of threads
    set_seed(job["seed"], deterministic=torch.cuda.is_available())
    check = partial(job_folder.stop_if_asked, folder)
    base_folder = Path(job["base_folder"])
    if job["base_weights"]:
        convert_gguf(Path(job["base_weights"]), base_folder)
        allocator.give_back_free_memory()  # 0.25 GB, which the job may need

    asked = with_base(folder, job, checkpoint)
    examples, validation_examples = encode_files(folder, job, asked["max_length"])
    asked = with_examples(job, asked, examples)
    is_dpo = job["method"] == "dpo"
    resolved = resolve(asked, len(examples) // (2 if is_dpo else 1), job["method"])
    hyperparameters = cast("Hyperparameters", resolved)
    if sizes := memory.read_base(base_folder, text_config(base_folder)):
        memory.refuse_if_too_large(
            sizes,
            hyperparameters,
            dtype,
            examples,
            validation_examples,
            processes.count(),
            available_bytes(),
            # On CPUs, all processes load the base into the same memory, one after another.
            processes.count() if is_sharded and best_device() != "cpu" else 1,
        )
    quantize = hyperparameters["quantize"]
    if is_sharded and quantize:
        raise JobError("unsupported_value", NO_SHARDED_QUANTIZE, "hyperparameters")
    with processes.one_after_another() if is_sharded else nullcontext():  # each has the whole base for a while
        base = load_base(base_folder, dtype, [*examples, *validation_examples], quantize)
        # An adapter in its base's dtype needs no casts in its layers.
        model = get_peft_model(base, lora_config(base, hyperparameters), autocast_adapter_dtype=False)
        if is_sharded:
            shard_layers(model)
    if not quantize:
        model.to(best_device())
    model.eval()  # Trainer turns dropout on, for its steps
    if hyperparameters["gradient_checkpointing"]:
        recompute_activations(base)
    arguments = training_arguments(job["seed"], hyperparameters, folder / job_folder.CHECKPOINTS)
    split_model = SplitModel(model.get_base_model(), first_trained_layer(base, hyperparameters), examples)
    dataset_of: Callable[..., Any] = PreferenceDataset if is_dpo else PrecomputedDataset
    new_metrics: Callable[[], MethodMetrics] = TokenMetrics
    if is_dpo:
        new_metrics = partial(PreferenceMetrics, hyperparameters["beta"])
    trained = dataset_of(split_model, examples, check)
    trainer = JobTrainer(model, arguments, trained, new_metrics(), is_sharded)
    measured = dataset_of(split_model, validation_examples, check)
    # Only now: so SplitModel computes with the same weights whether the job starts or resumes.
    parent = folder / job_folder.PARENT
    if parent.exists() and not checkpoint:
        load_adapter(model, parent)
    if is_dpo:
        set_reference([trained, measured], checkpoint)
        # Before the callback that marks a checkpoint as complete.
        trainer.add_callback(KeepReference(folder, [trained, measured]))
    reporting = ReportingCallback(folder, trainer, ValidationSet(measured, hyperparameters["batch_size"], new_metrics))
    trainer.add_callback(reporting)
    if job["integrations"] and processes.rank() == 0:
        trainer.add_callback(WandbCallback(folder, {**job, "hyperparameters": dict(hyperparameters)}, reporting))

    if processes.rank() == 0:
        job_folder.add_event(
            folder,
            "started",
            step=step_of(checkpoint) if checkpoint else 0,
            device=arguments.device.type,
            dtype=dtype,
            processes=processes.count(),
            threads=threads,
            sharded=is_sharded,
            hyperparameters=hyperparameters,
        )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        return {"status": "stopped"}
    tokens_an_epoch = sum(len(example.input_ids) for example in examples)
    return {"status": "succeeded", "trained_tokens": tokens_an_epoch * hyperparameters["n_epochs"]}


def with_base(folder: Path, job: Job, checkpoint: Path | None) -> dict[str, Any]:
    """Return the job's hyperparameters with those that depend on the base or on the adapter that it continues from.

    Raises JobError for what does not fit them.
    """
    config = text_config(Path(job["base_folder"]))
    adapter = (checkpoint or folder / job_folder.PARENT) / "adapter_config.json"
    return resolve_with_base(
        job["hyperparameters"],
        config.num_hidden_layers,
        context_length_of(config),
        json.loads(adapter.read_bytes()) if adapter.exists() else None,
    )


def with_examples(job: Job, asked: dict[str, Any], examples: list[EncodedExample]) -> dict[str, Any]:
    """Return the job's hyperparameters with those that depend on its examples too."""
    layers = text_config(Path(job["base_folder"])).num_hidden_layers
    return resolve_with_answers(asked, layers, [trained_tokens(example) for example in examples], job["method"])


def encode_files(folder: Path, job: Job, max_length: int) -> tuple[list[EncodedExample], list[EncodedExample]]:
    """Return the encoded examples of the job's training file and of its validation file, if it has one."""
    tokenizer = AutoTokenizer.from_pretrained(job["base_folder"])
    check = partial(job_folder.stop_if_asked, folder)

    def encoded(name: str, param: str) -> list[EncodedExample]:
        path = folder / name
        return encode_file(tokenizer, path, max_length, param, job["method"], check) if path.exists() else []

    examples = encoded(job_folder.TRAINING, "training_file")
    return examples, encoded(job_folder.VALIDATION, "validation_file")


def training_arguments(seed: int, hyperparameters: Hyperparameters, checkpoints: Path) -> TrainingArguments:
    """Return the settings of Transformers' Trainer, which saves its checkpoints in the folder `checkpoints`.

    The size of its batches is that of the parts of all processes together.
    """
    batch_size = hyperparameters["batch_size"]
    part = memory.micro_batch(batch_size, processes.count(), memory.answers_of(hyperparameters))
    return TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=hyperparameters["n_epochs"],
        per_device_train_batch_size=part,
        gradient_accumulation_steps=batch_size // part,
        learning_rate=hyperparameters["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=hyperparameters["warmup_ratio"],  # below 1, it is a share of all steps
        weight_decay=hyperparameters["weight_decay"],
        bf16=False,  # the weights have the job's dtype already; autocast would only cast them again
        seed=seed,
        data_seed=seed,
        save_strategy="epoch",
        logging_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        use_cpu=best_device() == "cpu",
    )
