"""The project of a successor, from files as `finetune rescue save` writes them: its rows, its settings, its verdict."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from answered import write_answers
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.records.answers import RecordedAnswer
from finetune.core.sections.evaluate import Rescued
from finetune.rescue.rows import divide, saved_rows
from finetune.scoring.rescued import add_verdict

ROOT = Path(__file__).parents[1]
MODEL = "ft:gpt-4o-mini-2024-07-18:org::abc"
TEAMS = ["billing", "sales"]
WORDS = ["parcel", "courier", "invoice", "refund", "address", "window", "garden", "kettle", "lamp", "carpet", "ladder"]
PARAMS = """\
# The comment of the data.
data:
  file: data/raw/raw.csv
  labels: [billing, sales]
  redact: true
  split: {train: 0.5, valid: 0.1, test: 0.4}
provider: {name: openai, base_url: null, warn_days: 30}
train:
  base: gpt-4o-mini-2024-07-18
  method: supervised
  n_epochs: 3
  batch_size: 8
  learning_rate_multiplier: 2.0
  suffix: triage
  hyperparameters: {beta: 0.1}
  seed: 7
evaluate:
  compare: [v1]
  judge: {model: gpt-4.1}
  stop: ["!"]
  require: {compared.v1.accuracy: "> 0", lift.accuracy_low: "> 0"}
  max_tokens: 9
  temperature: 0.7
  concurrency: 8
export: {formats: [merged]}
"""


def question(number: int) -> str:
    """Return a question that is like no other one."""
    digits = [number // 121 % 11, number // 11 % 11, number % 11]
    return " ".join(f"{WORDS[digit]}{place}{number}" for place, digit in enumerate(digits))


def chat(number: int, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question(number)}, {"role": "assistant", "content": answer}]}


def recorded(number: int, answer: str, file: str, **more: Any) -> dict[str, Any]:
    return {"place": f"{file}:{number + 1}", "expected": TEAMS[number % 2], **more, **chat(number, answer)}


@pytest.fixture
def closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the project that has saved a model: 60 training rows, of which it answers each tenth wrong."""
    folder = tmp_path / "closing"
    for name in ("dvc.yaml", "models.toml", "data/also/.gitkeep", "data/replay/.gitkeep", "models/variants/README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    monkeypatch.chdir(folder)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    Path("models/model.json").write_text("{}", encoding="utf-8")
    Path("data/raw").mkdir()
    Path("data/raw/raw.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "add", "."], check=True)
    Path("notes.txt").write_text("not tracked", encoding="utf-8")
    saved = Path("data/rescued/model")
    write_json(saved / "of.json", {"model": MODEL})
    write_json(saved / "manifest.json", {"settings": {"max_tokens": 4, "temperature": 0.0}})
    write_jsonl(saved / "training.jsonl", [chat(n, TEAMS[n % 2]) for n in range(60)])
    answers = [recorded(n, TEAMS[(n + (n % 10 == 0)) % 2], "training.jsonl") for n in range(60)]
    write_jsonl(saved / "answers.jsonl", answers)
    return folder


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def into(*options: str) -> str:
    return run("rescue", "into", "../new", "--provider", "local", "--base", "SmolLM2-135M-Instruct", *options)


def evaluated() -> dict[str, Any]:
    """Return the evaluation of a tuned model that is always right."""
    run("prepare")
    run("validate")
    write_answers(Path())
    run("evaluate")
    found: dict[str, Any] = json.loads(Path("reports/evaluation.json").read_text(encoding="utf-8"))
    return found


def test_the_models_answers_to_its_training_rows_make_a_project(closing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = into("--answers", "model")
    assert "60 rows of" in said
    assert "trained on them, which favours it" in said
    monkeypatch.chdir("../new")
    assert not Path("notes.txt").exists()
    assert not Path("models/model.json").exists()
    assert [path.name for path in Path("data/raw").iterdir()] == ["rescued.jsonl"]
    assert Path(".git").is_dir()
    values = YAML(typ="safe").load(Path("params.yaml"))
    assert values["data"] == {
        "file": "data/raw/rescued.jsonl",
        "format": "messages",
        "labels": TEAMS,
        "split": {"train": 0.5, "valid": 0.1, "test": 0.4},
    }
    assert values["provider"] == {"name": "local", "warn_days": 30}
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    assert values["train"] == {"base": "SmolLM2-135M-Instruct", "method": "supervised", "seed": 7, **auto}
    assert values["evaluate"] == {
        "require": {"lift.accuracy_low": "> 0", "rescued.kept": "== 1"},
        "max_tokens": 4,
        "temperature": 0.0,
        "concurrency": 8,
        "rescued": {"model": MODEL, "answers": "data/also/rescued.jsonl", "margin": 0.05},
    }
    assert Path("params.yaml").read_text(encoding="utf-8").startswith("# The comment of the data.\n")
    found = evaluated()
    rows, verdict = found["n"], found["rescued"]["verdict"]
    assert found["rescued"]["accuracy"] == 1.0
    assert f"; it was trained on {rows} of these {rows} rows, which favours it; the right answers of {rows}" in verdict


def test_rows_that_it_was_not_trained_on_are_the_test(closing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [recorded(n, TEAMS[(n + (n % 4 == 0)) % 2], "new.csv", logprobs=[]) for n in range(60, 160)]
    answers += [recorded(3, "sales", "new.csv"), recorded(200, "?", "new.csv", refused=True)]
    write_jsonl(Path("data/rescued/model/answers-new.jsonl"), answers)
    right = divide(saved_rows(Path("data/rescued/model")), "original").recorded
    assert [row.get("is_expected") for row in right] == [None] * 100
    said = into("--answers", "model")
    assert "160 rows of" in said
    assert "60 train, 0 valid, 100 test; left out: 1 (no answer of the model)" in said
    monkeypatch.chdir("../new")
    rows = read_jsonl(Path("data/raw/rescued.jsonl"), "rescue")
    # It trains on the model's answers, right or wrong, and is scored by the original ones.
    given = [row["messages"][-1]["content"] for row in rows]
    assert given[:60] == [TEAMS[(n + (n % 10 == 0)) % 2] for n in range(60)]
    assert given[60:] == [TEAMS[n % 2] for n in range(60, 160)]
    found = evaluated()
    assert found["rescued"]["accuracy"] == 0.75
    assert found["rescued"]["lift"]["wins"] == 25
    assert found["rescued"]["kept"] == 1
    assert found["rescued"]["verdict"].startswith("as good within the margin of 0.05; ")
    values = YAML(typ="safe").load(Path("params.yaml"))
    other = values["evaluate"] | {"require": {"rescued.margins": "== 1"}}
    YAML().dump(values | {"evaluate": other}, Path("params.yaml"))
    with pytest.raises(FinetuneError, match=r"no metric 'rescued\.margins'"):
        run("validate")
    YAML().dump(values, Path("params.yaml"))
    write_jsonl(Path("data/also/rescued.jsonl"), read_jsonl(Path("data/also/rescued.jsonl"), "rescue")[1:])
    for stage in ("validate", "evaluate"):
        with pytest.raises(FinetuneError, match=r"no answer of .* to 1 of 100 test rows, first to row 1"):
            run(stage)


def test_only_the_answers_of_the_model_that_were_recorded_are_trained_on(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "original"},
        {"role": "user", "content": "two"},
    ]
    row: RecordedAnswer = {"place": "new.jsonl:1", "messages": [*turns, {"role": "assistant", "content": "own"}]}
    write_jsonl(tmp_path / "answers-new.jsonl", [row, {"place": "new.jsonl:2", "messages": turns[:1], "error": "400"}])
    divided = divide(saved_rows(tmp_path), "model")
    assert [row.get("is_expected") for row in divided.recorded] == [True]
    assert [turn.get("weight") for turn in divided.rows[0]["messages"]] == [None, 0, None, None]
    assert divided.left_out == {"no answer of the model": 1}
    with pytest.raises(FinetuneError, match="No saved row has an answer to train on"):
        divide(saved_rows(tmp_path), "original")


@pytest.mark.parametrize(
    ("low", "high", "kept", "begin"),
    [
        (-0.04, 0.1, 1, "as good within the margin of 0.05; "),
        (-0.06, 0.1, 0, "not shown to be as good within the margin of 0.05; "),
        (-0.5, -0.06, 0, "worse by more than the margin of 0.05; "),
    ],
)
def test_the_verdict_says_whether_it_is_as_good(low: float, high: float, kept: int, begin: str) -> None:
    found: dict[str, Any] = {"lift": {"accuracy_low": low, "accuracy_high": high, "verdict": "the paired test"}}
    add_verdict(found, "accuracy", Rescued(model=MODEL, answers="a.jsonl"), [], [])
    assert found["kept"] == kept
    assert found["verdict"].startswith(begin)


def test_general_chat_and_answers_that_were_cut_are_no_rows(closing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    general = [
        {
            "messages": [
                {"role": "user", "content": f"Tell me of {word}"},
                {"role": "assistant", "content": "It is. " * 30},
            ]
        }
        for word in WORDS
    ]
    write_jsonl(Path("data/replay/general.jsonl"), general)
    file = Path("data/rescued/model/training.jsonl")
    write_jsonl(file, [*read_jsonl(file, "rescue"), *general[:7]])
    replay = "  replay: {file: data/replay/general.jsonl, share: 0.1}\n  seed: 7\n"
    Path("params.yaml").write_text(PARAMS.replace("  seed: 7\n", replay), encoding="utf-8")
    answers = read_jsonl(Path("data/rescued/model/answers.jsonl"), "rescue")
    answers[0] |= {"cut": True, "max_tokens": 4}
    answers[1]["messages"][-1]["content"] = ""
    earlier = {"place": "training.jsonl:61", **general[0], "cut": True}  # an earlier version asked this one too
    write_jsonl(Path("data/rescued/model/answers.jsonl"), [*answers, earlier])
    said = into("--answers", "model")
    assert said.startswith("rescue: 58 rows of")
    assert "7 (general chat of train.replay)" in said
    assert "1 (the model's answer was cut); left out: 1 (the model's answer is empty)" in said
    assert "train.replay is left out" not in said
    monkeypatch.chdir("../new")
    values = YAML(typ="safe").load(Path("params.yaml"))
    assert values["data"]["labels"] == TEAMS
    assert values["train"]["replay"] == {"file": "data/replay/general.jsonl", "share": 0.1}
    run("prepare")


def test_mistakes_are_refused_before_anything_is_written(closing: Path) -> None:
    with pytest.raises(FinetuneError, match="is in this project"):
        run("rescue", "into", "new", "--provider", "local", "--base", "b")
    with pytest.raises(FinetuneError, match=r"'provider\.name': give one of"):
        run("rescue", "into", "../new", "--provider", "nobody", "--base", "b")
    with pytest.raises(FinetuneError, match=r"has no ft:other"):
        into("--model", "ft:other")
    with pytest.raises(FinetuneError, match=r"(?s)'azure' has no default address.*--base-url"):
        run("rescue", "into", "../new", "--provider", "azure", "--base", "b")
    write_json(Path("data/rescued/other/of.json"), {"model": "ft:other"})
    with pytest.raises(FinetuneError, match=r"has files already"):  # a model without answers is not meant
        run("rescue", "into", "..", "--provider", "local", "--base", "b")
    write_jsonl(Path("data/rescued/third/answers.jsonl"), [recorded(1, "sales", "new.csv")])
    write_json(Path("data/rescued/third/of.json"), {"model": "ft:third"})
    with pytest.raises(FinetuneError, match="has several models"):
        into()
    with pytest.raises(FinetuneError, match="has no answers of the model"):
        into("--model", "ft:other")
    assert not Path("../new").exists()
    into("--model", MODEL)
    with pytest.raises(FinetuneError, match="has files already"):
        into("--model", MODEL)
    shutil.rmtree("data/rescued")
    with pytest.raises(FinetuneError, match="has no saved model"):
        into()
