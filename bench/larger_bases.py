"""Measure how long the engine trains larger bases on this machine: the seconds in the table of docs/engine.md.

The bases have the sizes of the real ones and random weights, made on the spot. The rows are those of the table's usual
job: 512 tokens, 128 of them trained on, in batches of 8, with what `auto` chooses for such answers. One batch is
trained on for three epochs; the time has the pass through the frozen layers, and neither imports nor loading. A base
whose job does not fit into the memory is left out. It is no part of `make bench`:
`demo/my-fine-tune/.venv/bin/python bench/larger_bases.py [BASE …]` prints a Markdown table.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import DEMO, use_demo

BATCH, EPOCHS, SEED = 8, 3, 42


def make_base(kind: str, **sizes: Any) -> Any:
    """Return a base of these sizes with random weights, in the engine's dtype and with its attention for short rows."""
    import torch
    import transformers
    from finetune.engine.bases import best_dtype

    torch.manual_seed(SEED)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    dtype = getattr(torch, best_dtype())
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")


def seconds_of(name: str) -> float:
    """Return the seconds of a job on a base of the size of `name`."""
    import test_presets
    from finetune.engine.presets import ANSWER_TOKENS, ROW_TOKENS
    from finetune.engine.training import train_job
    from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample
    from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
    from finetune.engine.training.hyperparameters import resolve, resolve_with_answers, resolve_with_base
    from finetune.engine.training.metrics import TokenMetrics
    from finetune.engine.training.trainer import JobTrainer
    from peft import get_peft_model
    from transformers import PrinterCallback

    labels = [IGNORE_INDEX] * (ROW_TOKENS - ANSWER_TOKENS) + [7] * ANSWER_TOKENS
    examples = [EncodedExample([n, *[7] * (ROW_TOKENS - 1)], labels) for n in range(BATCH)]
    base = make_base(**test_presets.SIZES[name])
    layers = base.config.num_hidden_layers
    asked = resolve_with_base({"n_epochs": EPOCHS, "batch_size": BATCH}, layers, ROW_TOKENS)
    hyperparameters: Any = resolve(resolve_with_answers(asked, layers, [ANSWER_TOKENS], "supervised"), BATCH)
    model = get_peft_model(base, train_job.lora_config(base, hyperparameters), autocast_adapter_dtype=False)
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        arguments = train_job.training_arguments(SEED, hyperparameters, Path(folder))
        arguments.save_strategy = "no"
        start = time.monotonic()
        first = train_job.first_trained_layer(base, hyperparameters)
        dataset = PrecomputedDataset(SplitModel(model.get_base_model(), first, examples), examples)
        trainer = JobTrainer(model, arguments, dataset, TokenMetrics())
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return time.monotonic() - start


def main() -> None:
    use_demo()
    sys.path.insert(0, str(DEMO / "tests" / "engine"))
    from finetune.engine import before_torch
    from finetune.engine.devices import available_bytes
    from finetune.engine.presets import PRESETS, ROW_TOKENS

    if sys.argv[1:2] == ["--one"]:
        with tempfile.TemporaryDirectory() as home:
            before_torch(Path(home))
            print(seconds_of(sys.argv[2]))
        return
    print("| base | seconds | seconds for 1,000 tokens |")
    print("|---|---|---|")
    for one in PRESETS:
        if (sys.argv[1:] and one.name not in sys.argv[1:]) or one.memory * 1e9 > available_bytes():
            continue
        # One process for each base: when it ends, its memory is free for the next base.
        run = subprocess.run([sys.executable, __file__, "--one", one.name], capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr)
        seconds = float(run.stdout)
        print(f"| {one.name} | {seconds:.0f} | {1000 * seconds / (BATCH * EPOCHS * ROW_TOKENS):.1f} |", flush=True)


if __name__ == "__main__":
    main()
