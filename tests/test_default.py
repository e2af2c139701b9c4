"""The default project fine-tunes the real base, without an account."""

import json
from pathlib import Path

import pytest
from conftest import Project, assert_processes_end


@pytest.mark.slow
def test_the_first_repro_fine_tunes_a_language_model(installed: Path, binaries: Path, tmp_path: Path) -> None:
    project = Project(installed, binaries, tmp_path / "home")
    project.commit()
    answered = ["prepare", "validate", "upload", "train", "baseline", "tuned"]
    assert project.repro() == [*answered, "evaluate", "export", "report"]
    report = json.loads((installed / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    assert report["n"] >= 50
    assert report["tuned"]["accuracy"] >= 0.80
    assert report["tuned"]["accuracy"] - report["base"]["accuracy"] >= 0.40
    assert project.repro() == []
    shown = project.run("dvc", "metrics", "show", "reports/evaluation.json").stdout
    assert "tuned.accuracy" in shown
    assert "file://" in project.run("dvc", "plots", "show").stdout
    assert_editors_show_it(project)
    assert_processes_end(project.home)


def assert_editors_show_it(project: Project) -> None:
    """Assert that what DVC's extension of VS Code and notebooks read has this fine-tune and its plots."""
    here = json.loads(project.run("dvc", "exp", "show", "--json").stdout)[0]["data"]
    assert here["metrics"]["reports/evaluation.json"]["data"]["tuned"]["accuracy"] >= 0.80
    assert here["params"]["params.yaml"]["data"]["train"]["n_epochs"] == 2
    shown = json.loads(project.run("dvc", "plots", "show", "--json").stdout)
    assert "errors" not in shown
    [loss], [confusion] = (shown["data"][name] for name in ("Loss", "reports/confusion_tuned.csv"))
    assert {row["field"] for row in loss["content"]["data"]["values"]} == {"train_loss", "valid_loss"}
    assert {"actual", "predicted"} <= set(confusion["content"]["data"]["values"][0])
