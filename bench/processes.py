"""Compare trainings in one process, in two of torchrun and in two of accelerate: the same rows, batches and cores."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import BASE, DEMO, use_demo

ROWS, EPOCHS, BATCH, SEED = 160, 2, 8, 42
LAUNCHERS = {
    "one process": [sys.executable],
    "two of torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "two of accelerate": [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--multi_gpu", "--num_processes", "2", "--main_process_port", "0"),
    ],
}


def prepare(folder: Path, base_folder: Path) -> None:
    """Write the folder of a job on the demo's rows."""
    from finetune.engine.training.job_folder import Job, write_job

    folder.mkdir()
    for name, split, rows in (("training", "train", ROWS), ("validation", "valid", ROWS)):
        lines = (DEMO / "data" / "prepared" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    job: Job = {
        "id": folder.name,
        "base": BASE,
        "base_folder": str(base_folder),
        "base_weights": None,
        "model": BASE,
        "method": "supervised",
        "hyperparameters": {"n_epochs": EPOCHS, "batch_size": BATCH, "learning_rate_multiplier": 1.0},
        "seed": SEED,
        "dtype": None,
        "threads": None,
        "cores": None,
        "processes": None,
        "asked_by": None,
        "integrations": [],
        "integrations_folder": str(folder),
    }
    write_job(folder, job)


def train(folder: Path, launcher: list[str]) -> list[dict[str, Any]]:
    """Train the job of a folder, and return its events."""
    command = [*launcher, "-m", "finetune.engine.training", str(folder)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]


def main() -> None:
    use_demo()
    from finetune.engine.bases import folder_of

    with tempfile.TemporaryDirectory() as home:
        base_folder = folder_of(BASE, Path(home))
        curves = {}
        for name, launcher in LAUNCHERS.items():
            folder = Path(home) / name.replace(" ", "-")
            prepare(folder, base_folder)
            events = train(folder, launcher)
            started = next(event for event in events if event["kind"] == "started")
            steps = [event for event in events if event["kind"] == "step"]
            seconds = max(1, steps[-1]["created_at"] - started["created_at"])
            curves[name] = [event["metrics"] for event in steps]
            last = curves[name][-1]
            print(
                f"- {name}, {started['threads']} threads each: {len(steps) / seconds:.2f} steps/s; train loss"
                f" {curves[name][0]['train_loss']:.4f} → {last['train_loss']:.4f}, validation loss"
                f" {last['full_valid_loss']:.4f}"
            )
    one, *others = curves.values()
    for name, other in zip([*curves][1:], others, strict=True):
        difference = max(abs(a["train_loss"] - b["train_loss"]) for a, b in zip(one, other, strict=True))
        print(f"- Largest difference of the train losses at a step, {name} and one process: {difference:.4f}")


if __name__ == "__main__":
    main()
