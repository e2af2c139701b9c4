"""Train the job of a folder, from its files to its adapter: LoRA, by Transformers and PEFT."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainingArguments, set_seed
from transformers.utils import logging

from finetune.engine.api_errors import JobError
from finetune.engine.devices import best_dtype
from finetune.engine.training import job_folder, processes
from finetune.engine.training.checkpoints import newest_complete_checkpoint, step_of
from finetune.engine.training.encoding import EncodedExample, encode_file
from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
from finetune.engine.training.hyperparameters import BASE_LEARNING_RATE, first_trained_layer, lora_config
from finetune.engine.training.job_folder import Job, Result
from finetune.engine.training.metrics import ValidationSet
from finetune.engine.training.reporting import ReportingCallback
from finetune.engine.training.trainer import JobTrainer
from finetune.engine.training.wandb_runs import WandbCallback

MAX_MICRO_BATCH = 16  # examples of a process; larger batches are accumulated from equal parts of at most this size
MAX_EAGER_TOKENS = 512  # of the longest example, for eager attention

logging.set_verbosity_error()  # type: ignore[no-untyped-call]
logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def train_job(folder: Path) -> Result:
    """Train the job of a folder from its newest checkpoint, until it ends or is asked to stop.

    The same files, base, hyperparameters, seed, processes, threads and dtype give the same bytes on the same machine,
    with or without interruptions. Raises JobError if the cause of a failure is the job itself.
    """
    job = job_folder.read_job(folder)
    processes.join(folder, job)
    hyperparameters, threads, dtype = job["hyperparameters"], processes.threads(job), job["dtype"] or best_dtype()
    checkpoint = newest_complete_checkpoint(folder)
    processes.wait_for_all()  # before one of them saves another checkpoint
    torch.set_num_threads(threads)
    if processes.count() > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # without it, accelerate sets another number of threads
    set_seed(job["seed"], deterministic=torch.cuda.is_available())
    check = partial(job_folder.stop_if_asked, folder)

    examples, validation_examples = encode_files(folder, job)
    base = load_base(Path(job["base_folder"]), dtype, [*examples, *validation_examples])
    first = first_trained_layer(base)
    # An adapter in its base's dtype needs no casts in its layers.
    model = get_peft_model(base, lora_config(base, first), autocast_adapter_dtype=False)
    arguments = training_arguments(job, folder / job_folder.CHECKPOINTS)
    split_model = SplitModel(model.get_base_model(), first, examples)
    trainer = JobTrainer(model, arguments, PrecomputedDataset(split_model, examples, check))
    measured = PrecomputedDataset(split_model, validation_examples, check)
    reporting = ReportingCallback(folder, trainer, ValidationSet(measured, hyperparameters["batch_size"]))
    trainer.add_callback(reporting)
    if job["integrations"] and processes.rank() == 0:
        trainer.add_callback(WandbCallback(folder, job, reporting))
    # Only now: so SplitModel computes with the same weights whether the job starts or resumes.
    parent = folder / job_folder.PARENT
    if parent.exists() and not checkpoint:
        load_adapter(model, parent)

    if processes.rank() == 0:
        job_folder.add_event(
            folder,
            "started",
            step=step_of(checkpoint) if checkpoint else 0,
            device=arguments.device.type,
            dtype=dtype,
            processes=processes.count(),
            threads=threads,
        )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        return {"status": "stopped"}
    tokens_an_epoch = sum(len(example.input_ids) for example in examples)
    return {"status": "succeeded", "trained_tokens": tokens_an_epoch * hyperparameters["n_epochs"]}


def encode_files(folder: Path, job: Job) -> tuple[list[EncodedExample], list[EncodedExample]]:
    """Return the encoded examples of the job's training file and of its validation file, if it has one."""
    tokenizer = AutoTokenizer.from_pretrained(job["base_folder"])
    context_length = AutoConfig.from_pretrained(job["base_folder"]).max_position_embeddings
    check = partial(job_folder.stop_if_asked, folder)

    def encoded(name: str, param: str) -> list[EncodedExample]:
        path = folder / name
        return encode_file(tokenizer, path, context_length, param, check) if path.exists() else []

    examples = encoded(job_folder.TRAINING, "training_file")
    return examples, encoded(job_folder.VALIDATION, "validation_file")


def load_base(folder: Path, dtype: str, examples: list[EncodedExample]) -> Any:
    """Load a base with the attention that suits these examples."""
    longest = max(len(example.input_ids) for example in examples)
    # On a CPU, the backward pass of eager attention is the faster one for short examples, and needs more memory for
    # long ones.
    eager = longest <= MAX_EAGER_TOKENS and not torch.cuda.is_available()
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager" if eager else "sdpa"
    )


def training_arguments(job: Job, checkpoints: Path) -> TrainingArguments:
    """Return the settings of Transformers' Trainer, which saves its checkpoints in the folder `checkpoints`.

    The size of its batches is that of the parts of all processes together.
    """
    hyperparameters = job["hyperparameters"]
    batch_size = hyperparameters["batch_size"]
    sizes = range(1, min(MAX_MICRO_BATCH * processes.count(), batch_size) + 1)
    micro_batch = max(size for size in sizes if batch_size % size == 0)
    return TrainingArguments(
        output_dir=str(checkpoints),
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
        logging_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        use_cpu=not torch.cuda.is_available(),
    )


def load_adapter(model: PeftModel, adapter: Path) -> None:
    """Load the weights of an adapter's folder into a model that has the same adapted layers."""
    weights = load_file(adapter / "adapter_model.safetensors")
    if weights.keys() != get_peft_model_state_dict(model).keys():
        # PEFT would silently leave out the layers that this job does not train.
        what = "The adapter of this job's model is on other layers than this engine trains. Start from a base model."
        raise JobError("model_not_found", what, "model")
    set_peft_model_state_dict(model, weights)
