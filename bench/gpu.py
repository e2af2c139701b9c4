"""Compare the trainer with TRL's SFTTrainer on a GPU: tokens/s of LoRA on all layers, with and without packing.

The bases are made on the spot, with random weights in the shapes of Qwen2.5-0.5B and Qwen2.5-1.5B: the speed does not
depend on the values. `make gpu` installs TRL and runs this. `gpu.py --check` only looks for a GPU. `gpu.py --tiny` runs
all of it on any machine with a tiny base, to try the program: its figures mean nothing.
"""

import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import DEMO

SHAPES: dict[str, dict[str, int]] = {
    "0.5B": {
        "num_hidden_layers": 24,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "1.5B": {
        "num_hidden_layers": 28,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
}
TINY = {
    "tiny": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 258,
    }
}
ROWS, TINY_ROWS, WARM_UP_ROWS = 1024, 32, 16
TOKENS, ANSWER = (64, 384), 48  # of a row, at least and at most, and those that are trained on
ROW_TOKENS = 512  # of a packed row, in both trainers
BATCH, SEED, RANK = 16, 42, 16


def make_examples(rows: int, vocabulary: int) -> list[Any]:
    """Return examples of random tokens and lengths."""
    from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample

    draw = random.Random(SEED)
    lengths = [draw.randint(*TOKENS) for _ in range(rows)]
    tokens = [[draw.randrange(2, vocabulary) for _ in range(length)] for length in lengths]
    return [EncodedExample(ids, [IGNORE_INDEX] * (len(ids) - ANSWER) + ids[-ANSWER:]) for ids in tokens]


def make_base(shape: dict[str, int]) -> Any:
    """Return a base of a shape with random weights, on the device."""
    import torch
    from finetune.engine.devices import best_device, best_dtype
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    config = Qwen2Config(**shape, tie_word_embeddings=True, max_position_embeddings=4096, pad_token_id=0)
    with torch.device(best_device()):
        return Qwen2ForCausalLM(config).to(getattr(torch, best_dtype()))


def lora(base: Any) -> Any:
    """Return the adapter's configuration: rank 16 on all linear layers of all layers."""
    from finetune.engine.training.base_model import lora_config
    from finetune.engine.training.hyperparameters import resolve, resolve_with_base

    layers = base.config.num_hidden_layers
    return lora_config(base, resolve(resolve_with_base({"lora_layers": "all", "lora_r": RANK}, layers, 4096), ROWS))


def settings(folder: str, batch_size: int) -> dict[str, Any]:
    """Return the settings that both trainers have in common."""
    from finetune.engine.devices import best_device

    return {
        "output_dir": folder,
        "num_train_epochs": 1,
        "per_device_train_batch_size": batch_size,
        "learning_rate": 1e-4,
        "seed": SEED,
        "bf16": False,  # the weights are in bfloat16 already
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": best_device() == "cpu",
    }


def by_engine(base: Any, examples: list[Any], packing: bool, folder: str) -> Any:
    """Return the engine's trainer."""
    from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
    from finetune.engine.training.metrics import TokenMetrics
    from finetune.engine.training.trainer import JobTrainer
    from peft import get_peft_model
    from transformers import TrainingArguments

    model = get_peft_model(base, lora(base), autocast_adapter_dtype=False)
    split_model = SplitModel(model.get_base_model(), 0, examples)
    if not split_model.can_split:
        sys.exit("error: the engine computes this base without packing. → Report it: the comparison would be wrong.")
    dataset = PrecomputedDataset(split_model, examples)
    if not packing:
        dataset.row_tokens = 0
    arguments = TrainingArguments(**settings(folder, BATCH), remove_unused_columns=False)
    return JobTrainer(model, arguments, dataset, TokenMetrics())


def by_trl(base: Any, examples: list[Any], packing: bool, folder: str) -> Any:
    """Return TRL's trainer. With packing, its batches have as many tokens as without, in fewer rows."""
    from datasets import Dataset
    from tiny import make_tokenizer
    from trl import SFTConfig, SFTTrainer

    tokens = [one.input_ids for one in examples]
    answers = [[0] * (len(ids) - ANSWER) + [1] * ANSWER for ids in tokens]
    mean = sum(map(len, tokens)) / len(tokens)
    batch_size = max(1, round(BATCH * mean / ROW_TOKENS)) if packing else BATCH
    config = SFTConfig(
        **settings(folder, batch_size),
        packing=packing,
        max_length=ROW_TOKENS,
        completion_only_loss=True,
        gradient_checkpointing=False,
    )
    rows = Dataset.from_dict({"input_ids": tokens, "completion_mask": answers})
    return SFTTrainer(base, config, train_dataset=rows, peft_config=lora(base), processing_class=make_tokenizer())


def seconds_of(trainer_of: Any, shape: dict[str, int], examples: list[Any], packing: bool) -> float:
    """Return the seconds of an epoch, after a short one that is not timed."""
    import torch
    from transformers import PrinterCallback

    seconds = 0.0
    for part in (examples[:WARM_UP_ROWS], examples):
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(make_base(shape), part, packing, folder)
            trainer.remove_callback(PrinterCallback)
            wait_for_gpu()
            start = time.monotonic()
            trainer.train()
            wait_for_gpu()
            seconds = time.monotonic() - start
            del trainer
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return seconds


def wait_for_gpu() -> None:
    """Wait until the GPU has computed what it was asked for."""
    import torch
    from finetune.engine.devices import best_device

    if best_device() != "cpu":
        getattr(torch, best_device()).synchronize()


def device_name() -> str:
    """Return the name of the GPU. Exits if there is none."""
    import torch
    from finetune.engine.devices import best_device

    if best_device() == "cuda":
        return str(torch.cuda.get_device_name())
    if best_device() == "mps":
        return "Apple's GPU"
    sys.exit(
        "error: this machine has no GPU that PyTorch can use (neither CUDA nor MPS). → Run `make gpu` on a machine with"
        " one; with an NVIDIA card, `nvidia-smi` must work, and torch must be a CUDA build. To try the program on this"
        " machine: demo/my-fine-tune/.venv/bin/python bench/gpu.py --tiny"
    )


def main(arguments: list[str]) -> None:
    if not (DEMO / "finetune" / "engine").is_dir():
        sys.exit(f"error: {DEMO} is not there. → Run `make demo` first.")
    sys.path[:0] = [str(DEMO), str(Path(DEMO, "tests", "engine"))]
    tiny = "--tiny" in arguments
    name = "a trial, which says nothing about speed" if tiny else device_name()
    if "--check" in arguments:
        return
    if missing := [one for one in ("trl", "datasets") if importlib.util.find_spec(one) is None]:
        sys.exit(f"error: {' and '.join(missing)} is not installed here. → Run `make gpu`, which installs it.")
    import datasets
    from transformers.utils import logging

    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    for shape_name, shape in (TINY if tiny else SHAPES).items():
        examples = make_examples(TINY_ROWS if tiny else ROWS, shape["vocab_size"])
        tokens = sum(len(example.input_ids) for example in examples)
        for packing in (True, False):
            engine, trl = (tokens / seconds_of(one, shape, examples, packing) for one in (by_engine, by_trl))
            how = "with packing" if packing else "without packing"
            print(
                f"- {name}, {shape_name}, LoRA of rank {RANK} on all layers, {how}: {engine:,.0f} tokens/s; TRL's"
                f" SFTTrainer: {trl:,.0f}; ratio {engine / trl:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
