"""Small prepared projects for tests of upload and train, and what an engine has made for them."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from faulty import Server, address

from finetune.core.disk import write_json
from finetune.core.paths import PREPARED, PREPARED_REPORT, VALIDATION_REPORT

HERE = Path(__file__).parent
PARAMS = """
data: {file: raw.csv, split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: local, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: 7}
evaluate: {max_tokens: 6, temperature: 0.0, concurrency: 8}
"""


def make_project(folder: Path, provider: Server) -> None:
    (folder / "params.yaml").write_text(PARAMS.replace("URL", address(provider)), encoding="utf-8")
    (folder / PREPARED).mkdir(parents=True)
    for split, rows in (("train", 10), ("valid", 2)):
        lines = [
            {
                "messages": [
                    {"role": "user", "content": f"{folder} {split} {n}"},
                    {"role": "assistant", "content": "red"},
                ]
            }
            for n in range(rows)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / PREPARED / f"{split}.jsonl").write_text(text, encoding="utf-8")
    write_json(folder / VALIDATION_REPORT, {"train_tokens_per_epoch": 100, "auto": {"n_epochs": 1}})
    write_json(folder / PREPARED_REPORT, {"prompt": "x"})


def start(stage: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the stage as a process with the tests' pauses."""
    return subprocess.Popen(
        [sys.executable, HERE / "quick.py", stage, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(home: Path, query: str, *values: str | int) -> list[Any]:
    db = sqlite3.connect(home / "engine.db")
    try:
        return db.execute(query, values).fetchall()
    finally:
        db.close()


def provider_jobs(home: Path) -> list[tuple[str, str]]:
    return rows(home, "SELECT id, status FROM jobs ORDER BY n")
