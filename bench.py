"""The figures of the README: `make bench` runs this in the demo project's environment, on the demo's own data.

Each figure is printed as a line of Markdown. Nothing here is asserted: speed is a matter of the machine.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent
DEMO = ROOT / "demo" / "my-fine-tune"
BASE = "SmolLM2-135M-Instruct"
ROWS, EPOCHS, BATCH, SEED = 160, 2, 8, 42


def environment(home: Path) -> dict[str, str]:
    path = f"{DEMO.resolve() / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "FINETUNE_HOME": str(home), "PYTHONPATH": str(DEMO), "DVC_NO_ANALYTICS": "1"}


def clone(folder: Path) -> Path:
    """The demo as its first commit has it, without caches."""
    project = folder / "project"
    subprocess.run(["git", "clone", "-q", str(DEMO), str(project)], check=True)
    git = {"cwd": project, "check": True, "capture_output": True, "text": True}
    first = subprocess.run(["git", "rev-list", "--max-parents=0", "HEAD"], **git).stdout.split()[0]
    subprocess.run(["git", "checkout", "-q", first], **git)
    return project


def whole_run() -> tuple[float, dict, str, dict[str, str]]:
    """Seconds of the first `dvc repro` from nothing, its metrics, and the hashes of adapter and predictions."""
    with tempfile.TemporaryDirectory() as folder:
        project, home = clone(Path(folder)), Path(folder) / "home"
        start = time.monotonic()
        subprocess.run(["dvc", "repro", "-q"], cwd=project, env=environment(home), check=True)
        seconds = time.monotonic() - start
        report = json.loads((project / "reports" / "evaluation.json").read_text(encoding="utf-8"))
        names = ["models/weights/adapter_model.safetensors", "predictions/base.jsonl", "predictions/tuned.jsonl"]
        hashes = {name: hashlib.sha256((project / name).read_bytes()).hexdigest() for name in names}
        record = json.loads((project / "models" / "model.json").read_text(encoding="utf-8"))
        return seconds, report, record["model"], hashes


def starter_run(name: str) -> str:
    """A starter generated, and run from nothing: how long it took, and what it came to."""
    with tempfile.TemporaryDirectory() as folder:
        ours = [ROOT / ".venv" / "bin" / "cookiecutter", ROOT, "--no-input", "-o", folder, f"starter={name}"]
        subprocess.run(ours, check=True, stdout=subprocess.DEVNULL)
        project = Path(folder) / "my-fine-tune"
        there = {**environment(Path(folder) / "home"), "PYTHONPATH": str(project)}
        mine = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
        there |= dict.fromkeys(mine, "bench@example.com")
        for command in (["git", "add", "."], ["git", "commit", "-qm", "Start"]):
            subprocess.run(command, cwd=project, env=there, check=True)
        start = time.monotonic()
        subprocess.run(["dvc", "repro", "-q"], cwd=project, env=there, check=True)
        seconds = time.monotonic() - start
        report = json.loads((project / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    metric, p_value = report["metric"], report["lift"]["p_value"]
    before, after = (report[model][metric] for model in ("base", "tuned"))
    return f"{seconds:.0f} s; {metric} {before:.3f} → {after:.3f} on {report['n']} test rows, p = {p_value:g}"


def training_speeds(home: Path) -> tuple[float, float]:
    """Tokens a second of the engine's trainer and of a plain PyTorch + PEFT loop, same rows, batches and adapter."""
    sys.path.insert(0, str(DEMO))
    import torch
    from finetune.engine import bases
    from finetune.engine.training.encoding import IGNORE_INDEX, encode
    from finetune.engine.training.frozen_layers import PrecomputedDataset, SplitModel
    from finetune.engine.training.hyperparameters import BASE_LEARNING_RATE, first_trained_layer, lora_config
    from finetune.engine.training.trainer import JobTrainer
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainingArguments

    folder = bases.folder_of(BASE, home)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = (DEMO / "data" / "prepared" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:ROWS]
    examples = [encode(tokenizer, json.loads(line)["messages"], 8192) for line in lines]
    tokens = sum(len(example.input_ids) for example in examples) * EPOCHS
    dtype = getattr(torch, bases.best_dtype())

    def padded(batch: list) -> dict:
        longest = max(len(example.input_ids) for example in batch)
        fill = {"input_ids": 0, "labels": IGNORE_INDEX}
        rows = {
            key: [getattr(e, key) + [value] * (longest - len(e.input_ids)) for e in batch]
            for key, value in fill.items()
        }
        rows["attention_mask"] = [[1] * len(e.input_ids) + [0] * (longest - len(e.input_ids)) for e in batch]
        return {key: torch.tensor(value) for key, value in rows.items()}

    def plain() -> float:
        torch.manual_seed(SEED)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        model = get_peft_model(base, lora_config(base, first_trained_layer(base)))
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=BASE_LEARNING_RATE, weight_decay=0.0)
        start = time.monotonic()
        for _ in range(EPOCHS):
            for first in range(0, len(examples), BATCH):
                batch = padded(examples[first : first + BATCH])
                model(**batch, use_cache=False).loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return tokens / (time.monotonic() - start)

    def ours() -> float:
        torch.manual_seed(SEED)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
        first = first_trained_layer(base)
        model = get_peft_model(base, lora_config(base, first), autocast_adapter_dtype=False)
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
            start = time.monotonic()  # the pass that keeps the frozen layers' work is counted
            dataset = PrecomputedDataset(SplitModel(model.get_base_model(), first, examples), examples)
            trainer = JobTrainer(model, arguments, dataset)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            return tokens / (time.monotonic() - start)

    pairs = [(ours(), plain()) for _ in range(3)]
    return sorted(a for a, _ in pairs)[1], sorted(b for _, b in pairs)[1]


def main() -> None:
    if not (DEMO / "data" / "prepared" / "train.jsonl").exists():
        sys.exit("Run `make demo` first: the figures are of its data.")
    runs = [whole_run(), whole_run()]
    for seconds, report, _, _ in runs:
        base, tuned = report["base"]["accuracy"], report["tuned"]["accuracy"]
        n, p_value = report["n"], report["lift"]["p_value"]
        print(
            f"- `dvc repro` from nothing: {seconds:.0f} s;"
            f" accuracy {base:.3f} → {tuned:.3f} on {n} test rows, p = {p_value:g}"
        )
    for name, digest in runs[0][3].items():
        print(f"- `{name}` the same in both runs: {digest == runs[1][3][name]} ({digest[:16]}…)")
    for name in ("extract", "generate"):
        print(f"- `dvc repro` of the starter {name}, from nothing: {starter_run(name)}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ours, plain = training_speeds(home)
        print(f"- Training: {ours:.0f} tokens/s against {plain:.0f} of a plain loop: {ours / plain:.1f} times")
        shutil.rmtree(home / "bases")


if __name__ == "__main__":
    main()
