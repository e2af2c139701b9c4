"""A project of an earlier version of the template still works, and nothing is paid again.

`former_layout.tar.gz` was made by the version of 2026-11-26 (commit 3aafa99) on a tiny base: `project/` has the files
of a finished fine-tune with a checkpoint, few-shot answers and a grader; `home/` has the engine's state and the answers
of earlier runs, but no base, so a request to a model would fail.
"""

import json
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest
from conftest import Bake, Project

ARCHIVE = Path(__file__).with_name("former_layout.tar.gz")


def count(database: Path, table: str) -> int:
    db = sqlite3.connect(database)
    try:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        db.close()


@pytest.fixture(scope="module")
def former(bake: Bake, binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a new project with the user's files of the former one, as after an update of the template."""
    folder = tmp_path_factory.mktemp("former")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    project = Project(bake(), binaries, folder / "home")
    (folder / "project" / "dvc.yaml").unlink()
    shutil.rmtree(project.path / "data" / "raw")
    shutil.copytree(folder / "project", project.path, dirs_exist_ok=True)
    # The user's own set, which the former starter had: today's has further rows after these.
    general = project.path / "data" / "also" / "general.jsonl"
    general.write_text("".join(general.read_text(encoding="utf-8").splitlines(keepends=True)[:40]), encoding="utf-8")
    project.commit()
    return project


def test_the_former_evaluation_is_shown_and_reported(former: Project) -> None:
    shown = former.stage("show").stdout
    assert "checkpoints.11" in shown
    assert "graders.polite" in shown
    assert "verdict" not in former.stage("report").stderr
    report = (former.path / "reports" / "report.md").read_text(encoding="utf-8")
    assert "checkpoint 11" in report
    assert "polite" in report
    former.run("git", "checkout", "-q", ".")


def record_of(project: Project) -> dict[str, object]:
    """Return the record of the model, without the verdict on its curves, which has another rule since 0.3.0."""
    record = json.loads((project.path / "models" / "model.json").read_text(encoding="utf-8"))
    return {key: value for key, value in record.items() if not key.startswith("verdict")}


def rows_of(project: Project, name: str) -> list[dict[str, object]]:
    """Return the rows of a file of predictions, without `cut`, which former versions did not write."""
    lines = (project.path / "predictions" / name).read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "cut"} for line in lines]


@pytest.mark.slow
def test_repro_finds_the_job_and_asks_no_model(former: Project) -> None:
    model = record_of(former)
    predictions = {name: rows_of(former, name) for name in ("base.jsonl", "tuned.jsonl")}
    evaluation = json.loads((former.path / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    engine, answers = former.home / "engine.db", former.home / "answers.db"
    before = [count(engine, "jobs"), count(engine, "files"), count(answers, "completions")]
    former.repro()
    assert [count(engine, "jobs"), count(engine, "files"), count(answers, "completions")] == before
    assert not (former.home / "bases" / "tiny").exists()
    assert record_of(former).items() >= model.items()
    for name, content in predictions.items():
        assert rows_of(former, name) == content
    now = json.loads((former.path / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    # Log loss and calibration have other definitions since 0.3.0.
    same = ("accuracy", "weighted_f1", "macro_f1", "precision", "recall", "failed", "prompt_tokens")
    checkpoint = (now["checkpoints"]["11"], evaluation["checkpoint_11.0"])
    for after, before in (*((now[name], evaluation[name]) for name in ("base", "few_shot", "tuned")), checkpoint):
        assert [after[key] for key in same] == [before[key] for key in same]
    # Differences have other intervals and p-values since 0.3.0.
    same = ("accuracy", "wins", "losses")
    for after, before in (
        (now["lift"], evaluation["lift"]),
        (now["checkpoints"]["11"]["lift"], evaluation["lift_over_checkpoint_11.0"]),
    ):
        assert [after[key] for key in same] == [before[key] for key in same]
    assert now["graders"]["polite"]["tuned"]["score"] == evaluation["tuned"]["polite"]
    for name, found in now["also"].items():
        same = ("n", "base", "tuned", "lift", "margin")
        assert [found[key] for key in same] == [evaluation["also"][name][key] for key in same]
    assert former.repro() == []
