"""Where the stages leave what others read, and where a user's own state lies."""

import os
from pathlib import Path

import platformdirs

PREPARED = Path("data/prepared")
GROUPS = PREPARED / "groups.jsonl"  # of each test row the cell of data.by
PREPARED_REPORT = Path("reports/prepare.json")
VALIDATION_REPORT = Path("reports/validation.json")
FILES = Path("models/files.json")
MODEL = Path("models/model.json")
CURVES = Path("reports/training.csv")
EVALUATION = Path("reports/evaluation.json")
LATENCY = Path("reports/latency.json")
LEDGER = Path("reports/ledger.csv")
NOTES = Path(".finetune")  # git-ignored: what a run has begun and not yet ended


def user_home() -> Path:
    """The user's folder for all projects, made if need be: `FINETUNE_HOME`, else the platform's data directory."""
    home = Path(os.environ.get("FINETUNE_HOME") or platformdirs.user_data_dir("finetune")).expanduser()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home
