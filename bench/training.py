"""Compare the engine's trainer with a plain PyTorch + PEFT loop: same rows, batches, adapter and dtype."""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import BASE, DEMO, use_demo

ROWS, EPOCHS, BATCH, SEED, PASSES = 160, 2, 8, 42, 3


def load_examples(folder: Path) -> list[Any]:
    """Return ROWS training examples of the demo, as token IDs and labels of the base in `folder`."""
    from finetune.engine.training.encoding import encode
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = (DEMO / "data" / "prepared" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:ROWS]
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


def defaults(base: Any) -> Any:
    """Return what the engine trains for short answers where a job does not say it: the top eighth of the layers."""
    from finetune.engine.training.hyperparameters import resolve, resolve_with_answers, resolve_with_base

    layers = base.config.num_hidden_layers
    asked = resolve_with_base({}, layers, base.config.max_position_embeddings)
    return resolve(resolve_with_answers(asked, layers, [1], "supervised"), 1)


def time_plain_loop(folder: Path, examples: list[Any]) -> float:
    """Return the seconds that a plain loop takes."""
    import torch
    from finetune.engine.training.base_model import lora_config
    from finetune.engine.training.hyperparameters import BASE_LEARNING_RATE
    from peft import get_peft_model

    base = load_base(folder)
    model = get_peft_model(base, lora_config(base, defaults(base)))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=BASE_LEARNING_RATE, weight_decay=0.0)
    start = time.monotonic()
    for _ in range(EPOCHS):
        for first in range(0, len(examples), BATCH):
            batch = pad(examples[first : first + BATCH])
            model(**batch, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return time.monotonic() - start


def time_engine(folder: Path, examples: list[Any]) -> float:
    """Return the seconds that the engine's trainer takes, with the pass that precomputes the frozen layers' output."""
    from finetune.engine.training.base_model import first_trained_layer, lora_config
    from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
    from finetune.engine.training.hyperparameters import BASE_LEARNING_RATE
    from finetune.engine.training.metrics import TokenMetrics
    from finetune.engine.training.trainer import JobTrainer
    from peft import get_peft_model
    from transformers import PrinterCallback, TrainingArguments

    base = load_base(folder, attn_implementation="eager")
    first = first_trained_layer(base, defaults(base))
    model = get_peft_model(base, lora_config(base, defaults(base)), autocast_adapter_dtype=False)
    with tempfile.TemporaryDirectory() as work:
        arguments = TrainingArguments(
            output_dir=work,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=BASE_LEARNING_RATE,
            seed=SEED,
            bf16=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=True,
        )
        start = time.monotonic()
        split_model = SplitModel(model.get_base_model(), first, examples)
        trainer = JobTrainer(model, arguments, PrecomputedDataset(split_model, examples), TokenMetrics())
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return time.monotonic() - start


def main() -> None:
    use_demo()
    from finetune.engine.bases import folder_of

    with tempfile.TemporaryDirectory() as home:
        folder = folder_of(BASE, Path(home))
        examples = load_examples(folder)
        # In turns: other load on the machine then slows both.
        seconds = [(time_engine(folder, examples), time_plain_loop(folder, examples)) for _ in range(PASSES)]
    tokens = sum(len(example.input_ids) for example in examples) * EPOCHS
    engine, plain = (tokens / statistics.median(column) for column in zip(*seconds, strict=True))
    print(f"- Training: {engine:,.0f} tokens/s; a plain loop: {plain:,.0f} tokens/s; ratio {engine / plain:.1f}")


if __name__ == "__main__":
    main()
