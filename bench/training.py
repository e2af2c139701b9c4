"""Compare the engine's trainer with a plain PyTorch + PEFT loop and with TRL's SFTTrainer.

Rows, batches, adapter and dtype are the same. At the top eighth of the layers, the engine computes those below once for
each example; at all layers it can only pack, and compute logits where there are labels. `make bench` installs TRL.
"""

import json
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from common import BASE, DEMO, use_demo

BATCH, SEED, PASSES = 8, 42, 3


class Work(NamedTuple):
    """What is trained: `layers` as a job has it, None for what `auto` is with short answers."""

    name: str
    layers: str | None
    rows: int
    epochs: int


WORK = (Work("the top eighth of the layers", None, 160, 2), Work("all layers", "all", 80, 1))


def load_examples(folder: Path) -> list[Any]:
    """Return the training examples of the demo, as token IDs and labels of the base in `folder`."""
    from finetune.engine.training.encoding import encode
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = (DEMO / "data" / "prepared" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [encode(tokenizer, json.loads(line)["messages"], 8192) for line in lines]


def load_base(folder: Path, **options: str) -> Any:
    """Load the base in the engine's dtype, after setting the seed that the adapter's weights depend on."""
    import torch
    from finetune.engine.bases import best_dtype
    from transformers import AutoModelForCausalLM

    torch.manual_seed(SEED)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, best_dtype()), **options)


def pad(examples: list[Any]) -> dict[str, Any]:
    """Return a batch of tensors (examples, tokens of the longest), padded at the end."""
    import torch
    from finetune.engine.training.encoding import IGNORE_INDEX

    longest = max(len(example.input_ids) for example in examples)
    missing = [longest - len(example.input_ids) for example in examples]
    batch = {
        "input_ids": [e.input_ids + [0] * n for e, n in zip(examples, missing, strict=True)],
        "labels": [e.labels + [IGNORE_INDEX] * n for e, n in zip(examples, missing, strict=True)],
        "attention_mask": [[1] * (longest - n) + [0] * n for n in missing],
    }
    return {key: torch.tensor(rows) for key, rows in batch.items()}


def adapter(base: Any, work: Work) -> Any:
    """Return the hyperparameters of the engine's job, as it resolves them."""
    from finetune.engine.training.hyperparameters import resolve, resolve_with_answers, resolve_with_base

    layers = base.config.num_hidden_layers
    asked = {"lora_layers": work.layers} if work.layers else {}
    known = resolve_with_base(asked, layers, base.config.max_position_embeddings)
    return resolve(resolve_with_answers(known, layers, [1], "supervised"), 1)


def time_plain_loop(folder: Path, examples: list[Any], work: Work) -> float:
    """Return the seconds that a plain loop takes."""
    import torch
    from finetune.engine.training.base_model import lora_config
    from finetune.engine.training.hyperparameters import BASE_LEARNING_RATE
    from peft import get_peft_model

    base = load_base(folder)
    model = get_peft_model(base, lora_config(base, adapter(base, work)))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=BASE_LEARNING_RATE, weight_decay=0.0)
    start = time.monotonic()
    for _ in range(work.epochs):
        for first in range(0, len(examples), BATCH):
            batch = pad(examples[first : first + BATCH])
            model(**batch, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return time.monotonic() - start


def settings(folder: str, work: Work) -> dict[str, Any]:
    """Return the settings that the engine's trainer and TRL's have in common."""
    from finetune.engine.training.hyperparameters import BASE_LEARNING_RATE

    return {
        "output_dir": folder,
        "num_train_epochs": work.epochs,
        "per_device_train_batch_size": BATCH,
        "learning_rate": BASE_LEARNING_RATE,
        "seed": SEED,
        "bf16": False,  # the weights have the dtype already
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }


def time_engine(folder: Path, examples: list[Any], work: Work) -> float:
    """Return the seconds that the engine's trainer takes, with the pass that precomputes the frozen layers' output."""
    from finetune.engine.training.base_model import first_trained_layer, lora_config
    from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
    from finetune.engine.training.metrics import TokenMetrics
    from finetune.engine.training.trainer import JobTrainer
    from peft import get_peft_model
    from transformers import PrinterCallback, TrainingArguments

    base = load_base(folder, attn_implementation="eager")
    first = first_trained_layer(base, adapter(base, work))
    model = get_peft_model(base, lora_config(base, adapter(base, work)), autocast_adapter_dtype=False)
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(**settings(output, work), remove_unused_columns=False)
        start = time.monotonic()
        split_model = SplitModel(model.get_base_model(), first, examples)
        trainer = JobTrainer(model, arguments, PrecomputedDataset(split_model, examples), TokenMetrics())
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return time.monotonic() - start


def time_trl(folder: Path, examples: list[Any], work: Work) -> float:
    """Return the seconds that TRL's trainer takes, with the loss over the same positions."""
    from datasets import Dataset
    from finetune.engine.training.base_model import lora_config
    from finetune.engine.training.encoding import IGNORE_INDEX
    from transformers import AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    base = load_base(folder)
    rows = Dataset.from_dict(
        {
            "input_ids": [example.input_ids for example in examples],
            "completion_mask": [[int(label != IGNORE_INDEX) for label in one.labels] for one in examples],
        }
    )
    with tempfile.TemporaryDirectory() as output:
        config = SFTConfig(**settings(output, work), completion_only_loss=True, gradient_checkpointing=False)
        trainer = SFTTrainer(
            base,
            config,
            train_dataset=rows,
            peft_config=lora_config(base, adapter(base, work)),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        trainer.remove_callback(PrinterCallback)
        start = time.monotonic()
        trainer.train()
        return time.monotonic() - start


def main() -> None:
    use_demo()
    from finetune.engine import before_torch

    with tempfile.TemporaryDirectory() as home:
        before_torch(Path(home))
        from finetune.engine.bases import folder_of

        folder = folder_of(BASE, Path(home))
        rivals = {"a plain loop": time_plain_loop}
        if find_spec("trl"):
            rivals["TRL's SFTTrainer"] = time_trl
        else:
            print("TRL is not installed here: `make bench` installs it", file=sys.stderr)
        for work in WORK:
            examples = load_examples(folder)[: work.rows]
            tokens = sum(len(example.input_ids) for example in examples) * work.epochs
            # In turns: other load on the machine then slows all of them.
            seconds = [[one(folder, examples, work) for one in (time_engine, *rivals.values())] for _ in range(PASSES)]
            engine, *others = (tokens / statistics.median(column) for column in zip(*seconds, strict=True))
            compared = (
                f"{name}: {rate:,.0f}, ratio {engine / rate:.1f}" for name, rate in zip(rivals, others, strict=True)
            )
            print(f"- Training {work.name}: {engine:,.0f} tokens/s; {'; '.join(compared)}", flush=True)


if __name__ == "__main__":
    main()
