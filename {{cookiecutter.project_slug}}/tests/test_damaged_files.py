"""Every file that a command reads, damaged in every way: an error names it and says how to go on. No traceback."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answered import write_answers
from finished import record

from finetune.cli import app
from finetune.core.damage import warn_once
from finetune.core.disk import write_csv, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import LEDGER, MODEL
from finetune.core.read_records import read_model_record
from finetune.project.ledger import COLUMNS
from finetune.stages import evaluate, prepare, report, validate

PARAMS = """
data: {file: data/raw/m.csv, prompt: {user: "{text}", assistant: "{team}"}, labels: [billing, delivery],
  split: {train: 0.6, valid: 0.2, test: 0.2}}
provider: {name: openai}
train: {base: gpt-4.1-mini-2025-04-14, method: supervised, n_epochs: 2, batch_size: auto,
  learning_rate_multiplier: auto, seed: 1}
evaluate: {task: classify, max_tokens: 5, temperature: 0.0, concurrency: 2}
"""
WORDS = [f"{colour}{n}" for n in range(4) for colour in ("red", "blue", "green", "amber")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project with all files of a finished run, of invented answers, in a commit."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNE_HOME", str(folder / "home"))
        Path("data/raw").mkdir(parents=True)
        rows = [
            f"the {one} {other} parcel,{('billing', 'delivery')[(n + m) % 2]}"
            for n, one in enumerate(WORDS)
            for m, other in enumerate(WORDS[n + 1 :])
        ]
        Path("data/raw/m.csv").write_text("text,team\n" + "\n".join(rows) + "\n", encoding="utf-8")
        Path("params.yaml").write_text(PARAMS, encoding="utf-8")
        Path("models.toml").write_text("", encoding="utf-8")
        Path("dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
        Path("dvc.lock").write_text("schema: '2.0'\n", encoding="utf-8")
        params = load_params()
        prepare.run(params)
        validate.run(params)
        write_answers(folder)
        of = record() | {"verdict": "improving", "checkpoints": [], "model_of_last_step": None, "prompt": None}
        write_json(MODEL, of)
        Path("predictions/compared.jsonl").write_text("\n", encoding="utf-8")
        write_json(Path("predictions/tuned_latency.json"), {"tuned": {"median_ms": 5.0, "p95_ms": 9.0}})
        numbers = dict.fromkeys(COLUMNS[3:], 1)
        write_csv(LEDGER, COLUMNS, [{"job": "ftjob-2", "provider": "openai", "base": of["base"], **numbers}] * 3)
        evaluate.run(params)
        report.run()
        for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm x"):
            subprocess.run(["git", *command.split()], check=True)
    return folder


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    warn_once.cache_clear()


def open_project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    return folder


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def other_type(content: bytes) -> bytes:
    """Replace the first value of the first object by one of another type."""
    first = content.split(b"\n")[0] if content[:2] != b"{\n" else content
    value = json.loads(first)
    return json.dumps({key: [[1]] for key in value}).encode() + b"\n"


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"\x00\xff\xfe\x80garbage\n" * 3,
    "cut": cut,
    "other bytes": lambda content: content[: len(content) // 2] + b"\xff\xff" + content[len(content) // 2 :],
    "conflict": lambda content: b"<<<<<<< HEAD\n" + content + b"=======\n" + content + b">>>>>>> main\n",
    "list": lambda content: b"[]\n",
    "null": lambda content: b"null\n",
    "other version": lambda content: b'{"version": 99}\n',
    "other types": other_type,
}
JSON_FILES = {  # the commands that read each
    "models/files.json": ["report"],
    "models/model.json": ["show", "report"],
    "reports/evaluation.json": ["show", "report"],
    "reports/latency.json": ["report"],
    "reports/prepare.json": ["evaluate", "report", "validate"],
    "reports/validation.json": ["report"],
    "data/prepared/common_pieces.json": ["validate"],
    "predictions/latency.json": ["evaluate"],
    "predictions/tuned_latency.json": ["evaluate"],
    "predictions/answered_by.json": ["evaluate"],
}
JSONL_FILES = {
    "data/prepared/train.jsonl": ["evaluate", "validate"],
    "data/prepared/valid.jsonl": ["validate"],
    "data/prepared/test.jsonl": ["evaluate", "validate"],
    "data/prepared/test_rows.jsonl": ["evaluate", "validate"],
    "predictions/base.jsonl": ["evaluate"],
    "predictions/few_shot.jsonl": ["evaluate"],
    "predictions/tuned.jsonl": ["evaluate"],
}
TABLES = {
    f"reports/{name}.csv": ["report"]
    for name in ("ledger", "training", "classes", "confusion_base", "calibration", "rows", "metrics", "pairs")
}
SETTINGS = {"params.yaml": ["evaluate", "validate", "prepare"], "models.toml": ["validate"]}
# Commands that do not need what is lost: an empty table of few-shot answers is that of a project without them.
MAY_PASS = {
    ("predictions/few_shot.jsonl", "empty"),
    ("data/prepared/valid.jsonl", "empty"),
    ("models.toml", "empty"),
    ("reports/validation.json", "other version"),
    ("reports/prepare.json", "other version"),  # of which a command needs nothing
    ("data/prepared/test_rows.jsonl", "other version"),
}


def run(*arguments: str) -> BaseException | None:
    """Run a command; return the error of a user, or None. Any other exception is a traceback."""
    try:
        app(list(arguments), standalone_mode=False)
    except (FinetuneError, OSError) as error:
        return error
    return None


QUICK = ("garbage", "conflict")  # one that no reader takes, and one that looks nearly right


def cases(files: dict[str, list[str]], kinds: list[str]) -> list[Any]:
    return [
        pytest.param(file, kind, commands, marks=[] if kind in QUICK else [pytest.mark.slow])
        for file, commands in files.items()
        for kind in kinds
    ]


TEXT = ["empty", "garbage", "cut", "other bytes", "conflict"]
ALL = (
    cases(JSON_FILES, list(DAMAGE))
    + cases(JSONL_FILES, list(DAMAGE))
    + cases(TABLES, ["empty", "garbage", "conflict"])
    + cases(SETTINGS, ["garbage", "other bytes", "conflict"])
    + cases(JSON_FILES | JSONL_FILES | TABLES | SETTINGS, ["folder", "pipe"])
)


@pytest.mark.parametrize(("file", "kind", "commands"), ALL, ids=lambda value: value if isinstance(value, str) else "")
def test_a_damaged_record_is_named_with_what_to_do(
    file: str, kind: str, commands: list[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_project(finished, tmp_path, monkeypatch)
    path = folder / file
    content = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(DAMAGE[kind](content))
    there = {one.relative_to(folder) for one in folder.rglob("*")}
    for command in commands:
        error = run(command)
        assert there <= {one.relative_to(folder) for one in folder.rglob("*")}, "nothing is deleted"
        if (file, kind) in MAY_PASS:
            continue
        assert error is not None, f"{command} takes {file} ({kind}) as it is"
        assert file in str(error) or "different test rows" in str(error), f"{command}: {error}"
        assert "→" in str(error), f"{command}: {error}"


def test_a_conflict_of_a_merge_in_a_record_is_named_with_its_line(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_project(finished, tmp_path, monkeypatch)
    path = folder / MODEL
    path.write_bytes(b"{\n<<<<<<< HEAD\n" + path.read_bytes())
    words = r"model\.json is not valid JSON: a conflict of a merge .* line 2\n.*git checkout --ours models/model\.json"
    with pytest.raises(FinetuneError, match=words):
        read_model_record()


def test_a_damaged_lock_of_dvc_hides_no_error(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_project(finished, tmp_path, monkeypatch)
    (folder / "dvc.lock").write_bytes(b"<<<<<<< HEAD\nstages: [\xff\n")
    (folder / "models.toml").write_bytes(b"<<<<<<< HEAD\n")
    error = str(run("validate"))
    assert "models.toml is not valid TOML" in error
    assert "git checkout --ours dvc.lock" in error


def test_replies_of_the_judge_to_other_rows_are_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_project(finished, tmp_path, monkeypatch)
    (folder / "params.yaml").write_text(PARAMS.replace("concurrency: 2", "concurrency: 2, judge: {model: m}"))
    (folder / "predictions/judge_replies.jsonl").write_text('{"reply": "A"}\n' * 3)
    assert "The predictions of the judge" in str(run("evaluate"))
