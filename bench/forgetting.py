"""Show what train.replay costs and keeps: the task's score, the score on general questions, and the seconds.

Trains the demo, or another project of the template, once for each setting: about two minutes each on two cores. It is
no part of `make bench`: `demo/my-fine-tune/.venv/bin/python bench/forgetting.py [PROJECT]`.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import DEMO, environment, use_demo

SHARES = (0.0, 0.05, 0.1, 0.2, 0.28)  # the last one takes all rows
OWN = "data/replay/SmolLM2-135M-Instruct.jsonl"  # the base's own answers
WRITTEN = "data/replay/general.jsonl"  # answers by people to the same questions
# The rival levers: what else makes a model forget less.
RIVALS: tuple[dict[str, Any], ...] = ({"learning_rate_multiplier": 0.5}, {"n_epochs": 1})
CODE = ("finetune", "data", "models.toml", "params.yaml", "dvc.yaml")


def measure(source: Path, home: Path, train: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Train a copy of a project with other values of `train`. Return its evaluation and the training's seconds."""
    from ruamel.yaml import YAML

    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        for name in CODE:
            (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, project / name)
        yaml = YAML()
        values = yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
        values["train"] |= train
        yaml.dump(values, project / "params.yaml")
        for stage in ("prepare", "validate", "upload", "train", "baseline", "tuned", "evaluate"):
            start = time.monotonic()
            command = [sys.executable, "-m", "finetune", stage]
            subprocess.run(command, cwd=project, env=environment(project, home), check=True, capture_output=True)
            if stage == "train":
                seconds = time.monotonic() - start
        return json.loads((project / "reports" / "evaluation.json").read_text(encoding="utf-8")), seconds


def row_of(name: str, evaluation: dict[str, Any], seconds: float) -> str:
    """Return the figures of one training as a row of a Markdown table."""
    metric = evaluation["metric"]
    own, general = evaluation["tuned"], evaluation["also"]["general"]
    task = f"{own[metric]:.3f} ({own[f'{metric}_low']:.3f} to {own[f'{metric}_high']:.3f})"
    change = f"{general['lift']:+.3f} ({general['low']:+.3f} to {general['high']:+.3f})"
    also = f"{general['base']:.3f} → {general['tuned']:.3f}"
    return f"| {name} | {task} | {also} | {change} | {general['kept']} | {seconds:.0f} |"


def main() -> None:
    if sys.argv[1:]:
        source = Path(sys.argv[1]).resolve()
    else:
        use_demo()
        source = DEMO
    settings = [(f"own answers, share {share:g}", {"replay": {"file": OWN, "share": share}}) for share in SHARES]
    settings += [("written answers, share 0.2", {"replay": {"file": WRITTEN, "share": 0.2}})]
    settings += [(", ".join(f"{key} {value}" for key, value in one.items()), {**one, "replay": None}) for one in RIVALS]
    print("| setting | task's score | general questions | change (95 % interval) | kept | seconds |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        for name, train in settings:
            print(row_of(name, *measure(source, Path(home), train)), flush=True)


if __name__ == "__main__":
    main()
