"""Trainings with other seeds and fewer rows: each is paid once, also after a kill; the pipeline's own is reused."""

import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import COLOURS
from faulty import FAULTS, Plan, Server, address, kill_after, kill_before
from faulty_engine import faulty_engine
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_csv, read_json, read_jsonl, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import EVALUATION, LEARNING_CURVE, LEARNING_CURVE_PAGE, LEDGER, MODEL, TUNED_ANSWERS, VARIANTS
from finetune.project.cleanup import needed
from finetune.provider import create_once
from finetune.stages import baseline, evaluate, prepare, train, tuned, upload, validate

HERE = Path(__file__).parent
PARAMS = """
data: {file: data/raw/raw.jsonl, labels: [red, blue, green], split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: local, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: 7}
evaluate: {task: classify, max_tokens: 6, temperature: 0.0, concurrency: 8}
"""
CREATE = "POST /v1/fine_tuning/jobs"
ASK = "POST /v1/chat/completions"
pytestmark = pytest.mark.slow  # the whole pipeline runs first


@pytest.fixture(scope="module")
def provider(home: Path, forked_workers: None) -> Iterator[Server]:
    """An engine behind a proxy that makes planned calls fail."""
    with faulty_engine() as server:
        yield server


def finish(folder: Path, provider: Server) -> None:
    """Run the pipeline in a folder, with data that no other folder has."""
    provider.plan = Plan()
    (folder / "params.yaml").write_text(PARAMS.replace("URL", address(provider)), encoding="utf-8")
    lines = []
    for n in range(200):
        colour = COLOURS[n % 3]
        turns = [
            {"role": "user", "content": f"{n * 7919:x} {folder.name} {n**3:x}: paint it {colour}"},
            {"role": "assistant", "content": colour},
        ]
        lines.append(json.dumps({"messages": turns}) + "\n")
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/raw.jsonl").write_text("".join(lines), encoding="utf-8")
    for stage in (prepare, validate, upload, train, baseline, tuned, evaluate):
        stage.run(load_params())
    provider.plan = Plan()


@pytest.fixture
def project(provider: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose pipeline has run, with data that no other test has."""
    monkeypatch.chdir(tmp_path)
    finish(tmp_path, provider)
    return tmp_path


@pytest.fixture(scope="module")
def finished(provider: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(folder, provider)
    return folder


@pytest.fixture
def copied(finished: Path, provider: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project. All copies use one provider, so each test trains with other seeds."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    provider.plan = Plan()
    return folder


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def killed(provider: Server, folder: Path, *arguments: str) -> None:
    """Run a command in a process, which the provider kills at its planned call."""
    client = provider.client = subprocess.Popen(
        [sys.executable, HERE / "quick.py", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    client.wait()
    assert provider.plan.times == 0, "the planned call was never made"


def jobs_of(home: Path, folder: Path) -> list[tuple[str, str]]:
    """Return the seed and the status of each job that this project's files were used for."""
    files = {one["files"]["train"]["id"] for one in records(folder)} | {read_json(MODEL, "train")["job"]}
    db = sqlite3.connect(home / "engine.db")
    try:
        found = db.execute("SELECT id, status, training_file FROM jobs").fetchall()
    finally:
        db.close()
    return sorted((job, status) for job, status, file in found if file in files or job in files)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / VARIANTS).glob("*.json"))]


@pytest.mark.parametrize(
    ("call", "skip", "fault"),
    [
        (CREATE, 1, kill_after),
        (ASK, 50, kill_after),
        pytest.param(CREATE, 1, kill_before, marks=pytest.mark.further),
    ],
)
def test_after_a_kill_the_curve_continues_and_nothing_is_paid_twice(
    home: Path, provider: Server, project: Path, call: str, skip: int, fault: Any
) -> None:
    provider.plan = Plan(call, skip, fault)
    killed(provider, project, "learning-curve")
    provider.plan = Plan()
    text = run("learning-curve")
    found = records(project)
    assert len({one["rows"] for one in found}) == 4
    assert sorted(one["share"] for one in found) == [0.125, 0.25, 0.5, 1.0]
    jobs = jobs_of(home, project)
    assert sorted(job for job, _ in jobs) == sorted(one["job"] for one in found)
    assert {status for _, status in jobs} == {"succeeded"}
    assert read_json(MODEL, "train")["job"] in {one["job"] for one in found}
    assert sorted(row["job"] for row in read_csv(LEDGER)) == sorted(one["job"] for one in found)
    assert "twice the rows" in text.lower()
    assert len([row for row in read_csv(LEARNING_CURVE) if row["kind"] == "trained"]) == 4
    before, page = LEARNING_CURVE.read_bytes(), LEARNING_CURVE_PAGE.read_bytes()

    provider.plan = Plan()
    run("learning-curve")
    assert provider.plan.seen == []  # all of it is recorded: the provider is not asked at all
    assert (LEARNING_CURVE.read_bytes(), LEARNING_CURVE_PAGE.read_bytes()) == (before, page)


def test_other_seeds_are_trained_once_and_reach_the_evaluation(home: Path, provider: Server, copied: Path) -> None:
    found = json.loads(run("repeat", "--seeds", "8,9", "--json"))
    assert [one["seed"] for one in found["points"]] == [7, 8, 9]
    assert provider.plan.seen.count(CREATE) == 2
    assert found["trainings"]["n"] == 3
    assert evaluate.run(load_params())["trainings"] == found["trainings"]
    assert read_json(EVALUATION, "evaluate")["trainings"]["seeds"] == [7, 8, 9]
    assert "3 trainings with the seeds 7, 8, 9" in run("show")
    kept = needed()
    for one in records(copied):
        assert one["model"] in kept.models
        assert one["files"]["train"]["id"] in kept.files
        assert one["fingerprint"] in kept.fingerprints

    # The record of a variant is lost: its job and its answers are found.
    for path in (copied / VARIANTS).glob("seed8-*"):
        path.unlink()
    provider.plan = Plan()
    run("repeat", "--seeds", "8")
    assert CREATE not in provider.plan.seen
    assert ASK not in provider.plan.seen
    run("learning-curve", "--seeds", "8")  # the whole of seed 8 is trained
    assert provider.plan.seen.count(CREATE) == 3


def test_a_training_whose_request_is_unclear_is_waited_for_or_forgotten(
    provider: Server, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Plan(CREATE, 0, FAULTS["cut-before"])
    for seed, more in (("10", ["--forget"]), ("11", [])):
        provider.plan = dataclasses.replace(cut, seen=[])
        with pytest.raises(FinetuneError, match="no clear outcome"):
            run("repeat", "--seeds", seed)
        monkeypatch.setattr(create_once, "LIST_LAG", create_once.LIST_LAG + 30)
        provider.plan = Plan()
        done = CliRunner().invoke(app, ["repeat", "--seeds", seed, *more], catch_exceptions=False)
        hint = "unless you know that there is none: finetune repeat --forget"
        assert (hint in done.stderr) == (not more), done.stderr
        assert provider.plan.seen.count(CREATE) == 1


@pytest.mark.parametrize(
    ("fault", "seed"),
    [
        ("403", "12"),
        pytest.param("404", "13", marks=pytest.mark.further),
    ],
)
def test_a_key_that_may_not_read_models_trains_nothing_again(
    provider: Server, copied: Path, fault: str, seed: str
) -> None:
    run("repeat", "--seeds", seed)
    for path in (copied / VARIANTS).glob(f"seed{seed}-*"):
        record = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, {key: value for key, value in record.items() if key != "scores"})
    provider.plan = Plan(r"GET /v1/models/.*", 0, FAULTS[fault], times=100)
    run("repeat", "--seeds", seed)
    assert CREATE not in provider.plan.seen


@pytest.mark.further
def test_another_choice_of_the_checkpoint_holds_for_all_trainings(provider: Server, copied: Path) -> None:
    """Else the spread would be that between a chosen checkpoint of one training and the last ones of others."""
    run("repeat", "--seeds", "14")
    text = (copied / "params.yaml").read_text(encoding="utf-8").replace("seed: 7", "seed: 7, choose: best_valid_loss")
    (copied / "params.yaml").write_text(text, encoding="utf-8")
    for stage in (validate, train, tuned):
        stage.run(load_params())
    assert "trainings" not in evaluate.run(load_params())  # they are of the former choice
    provider.plan = Plan()
    found = json.loads(run("repeat", "--seeds", "14", "--json"))
    assert CREATE not in provider.plan.seen
    assert [one["choice"] for one in found["points"]] == ["best_valid_loss"] * 2
    assert found["trainings"]["n"] == 2


def test_the_record_of_the_pipelines_training_has_its_answers_of_now(provider: Server, copied: Path) -> None:
    run("repeat", "--seeds", "7")
    rows = read_jsonl(TUNED_ANSWERS, "")
    write_jsonl(TUNED_ANSWERS, [{**row, "answer": row["expected"]} for row in rows])  # asked again: all are right now
    evaluate.run(load_params())
    assert [one["scores"]["score"] for one in json.loads(run("repeat", "--seeds", "7", "--json"))["points"]] == [1.0]


def test_a_training_beyond_the_budget_is_refused_before_anything_is_sent(provider: Server, copied: Path) -> None:
    text = (copied / "params.yaml").read_text(encoding="utf-8").replace("seed: 7", "seed: 7, budget: {minutes: 0.01}")
    (copied / "params.yaml").write_text(text, encoding="utf-8")
    (copied / "models.toml").write_text("[tiny]\nseconds = 1000000\n", encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"train\.budget\.minutes"):
        run("repeat", "--seeds", "15")
    assert not [call for call in provider.plan.seen if call.startswith("POST")]


def test_another_pipeline_than_the_trained_one_is_refused(provider: Server, copied: Path) -> None:
    text = (copied / "params.yaml").read_text(encoding="utf-8").replace("n_epochs: 1", "n_epochs: 2")
    (copied / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(FinetuneError, match="Train and evaluate first with: dvc repro"):
        run("learning-curve")
    assert provider.plan.seen == []
