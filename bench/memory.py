"""Compare the engine's estimate of a job's memory with the peak of the real job, for bases of larger shapes.

The bases are made on the spot with random weights, in bfloat16. Each job takes one step with two rows of 488
tokens, of which 128 are trained on, with rank 16. A job that the system kills has no figures.
It is no part of `make bench`: `demo/my-fine-tune/.venv/bin/python bench/memory.py [BASE]` prints a Markdown table.
"""

import json
import signal
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from common import DEMO, use_demo
from gpu import SHAPES

BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2.5-0.5B": ("Qwen2", {**SHAPES["0.5B"], "tie_word_embeddings": True}),
    "Llama-3.2-1B": (
        "Llama",
        {
            "num_hidden_layers": 16,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
            "tie_word_embeddings": True,
        },
    ),
}
ROWS, QUESTION = 2, 340  # letters of a question are tokens of the tiny base's tokenizer
ANSWERED = {"role": "assistant", "content": "b" * 127}  # and one token ends it


# The engine refuses so small a file: its jobs have at least ten rows.
PEAK = """
import runpy, sys
from finetune.engine.training import training_file
training_file.MIN_EXAMPLES = 1
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def make_base(kind: str, shape: dict[str, Any], folder: Path) -> None:
    """Write a base with random weights."""
    import torch
    import transformers
    from tiny import make_tokenizer

    make_tokenizer().save_pretrained(folder)
    config = getattr(transformers, f"{kind}Config")(**shape, max_position_embeddings=4096, dtype="bfloat16")
    torch.set_default_dtype(torch.bfloat16)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)


def write_job(folder: Path, base: Path, dtype: str, hyperparameters: dict[str, Any]) -> None:
    """Write the folder of a job."""
    questions = [{"role": "user", "content": str(n).ljust(QUESTION, "a")} for n in range(ROWS)]
    lines = [json.dumps({"messages": [question, ANSWERED]}) for question in questions]
    (folder / "training.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    job = {
        "id": "memory",
        "base": base.name,
        "base_folder": str(base),
        "model": base.name,
        "method": "supervised",
        "hyperparameters": {"n_epochs": 1, "batch_size": ROWS, **hyperparameters},
        "seed": 42,
        "dtype": dtype,
        **dict.fromkeys(("base_weights", "threads", "cores", "processes", "asked_by")),
        "integrations": [],
        "integrations_folder": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")


def measure(base: Path, dtype: str, hyperparameters: dict[str, Any]) -> dict[str, int] | None:
    """Return the estimate and the peak of a job in bytes; None if the system killed its process."""
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder), base, dtype, hyperparameters)
        command = [sys.executable, "-c", PEAK, str(DEMO / "tests" / "engine" / "peak.py"), folder]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode == -signal.SIGKILL:
        return None
    if run.returncode:
        sys.exit(run.stderr)
    found: dict[str, int] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    use_demo()
    sys.path.insert(0, str(DEMO / "tests" / "engine"))
    chosen = sys.argv[1:] or list(BASES)
    print("| base | layers | gradient_checkpointing | dtype | estimate | peak | estimate / peak |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen:
        kind, shape = BASES[name]
        with tempfile.TemporaryDirectory() as folder:
            make_base(kind, shape, Path(folder))
            half = shape["num_hidden_layers"] // 2
            for dtype, layers, again in product(("bfloat16", "float32"), (half, "all"), (False, True)):
                settings = {"lora_layers": layers, "gradient_checkpointing": again}
                found = measure(Path(folder), dtype, settings)
                row = [name, layers, str(again).lower(), dtype]
                if found is None:
                    row += ["-", "-", "killed by the system"]
                else:
                    estimate, peak = found["estimate"], found["peak"]
                    row += [f"{estimate / 1e9:.2f} GB", f"{peak / 1e9:.2f} GB", f"{estimate / peak:.2f}"]
                print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
