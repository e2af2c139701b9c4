"""Which commit has the weights of a fine-tuned model, and whether they are still as they were."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.core.errors import FinetuneError
from finetune.core.paths import EVENTS, MODEL, WEIGHTS
from finetune.project.history import committed_models, folder_at, output_at
from finetune.project.kept_models import commit_with

PIPELINE = """\
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    outs: [models/weights, models/events.jsonl]
    metrics:
      - models/model.json:
          cache: false
"""
SCRIPT = """\
import json, pathlib
pathlib.Path("models/weights").mkdir(parents=True)
for path in ("models/weights/adapter", "models/events.jsonl"):
    pathlib.Path(path).write_text("of {name}")
pathlib.Path("models/model.json").write_text(json.dumps({{"model": "{name}", "base": "tiny"}}))
"""


def git(*arguments: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *names, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


def train(name: str) -> str:
    """Train a model, commit it, and return the commit."""
    Path("train.py").write_text(SCRIPT.format(name=name), encoding="utf-8")
    dvc("repro", "-q")
    return commit()


def commit() -> str:
    git("add", "-A", ".")
    git("commit", "-qm", "x")
    return git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project in a folder of a bigger Git repository."""
    git("init", "-q", str(tmp_path))
    (tmp_path / "team" / "project").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "team" / "project")
    dvc("init", "--subdir", "-q")
    Path("dvc.yaml").write_text(PIPELINE, encoding="utf-8")


@pytest.mark.slow
def test_the_weights_of_a_record_are_those_of_its_own_training(tmp_path: Path) -> None:
    first = train("ft:one")
    train("ft:two")
    git("checkout", "-q", first, "--", str(MODEL))  # as a merge can leave it: its dvc.lock has the other weights
    commit()
    assert commit_with("ft:one") == (first, "tiny")
    assert (folder_at(first, WEIGHTS, tmp_path) / "adapter").read_text(encoding="utf-8") == "of ft:one"
    assert output_at(first, EVENTS) == "of ft:one"


@pytest.mark.slow
def test_weights_that_were_changed_in_the_cache_are_refused(tmp_path: Path) -> None:
    first = train("ft:one")
    for file in Path(".dvc/cache/files").rglob("*"):
        if file.is_file() and file.suffix != ".dir":
            file.chmod(0o644)
            file.write_bytes(file.read_bytes().replace(b"one", b"two"))
    with pytest.raises(FinetuneError, match=r"adapter of \w+ was changed in DVC's cache or remote: delete files/md5/"):
        folder_at(first, WEIGHTS, tmp_path)


def test_a_model_that_a_merge_did_not_keep_is_still_one_of_a_commit() -> None:
    MODEL.parent.mkdir()
    for name in ("ft:one", "ft:side"):
        MODEL.write_text(json.dumps({"model": name}), encoding="utf-8")
        commit()
    side = git("rev-parse", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    Path("notes").write_text("x", encoding="utf-8")
    commit()
    git("merge", "-q", "-s", "ours", "-m", "x", side)
    assert "ft:side" in {record.get("model") for record in committed_models()}
