"""The default project fine-tunes the real base, without an account."""

import json
import subprocess
from pathlib import Path

from conftest import Project


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
    left = subprocess.run(["pgrep", "-af", str(project.home)], capture_output=True, text=True, check=False).stdout
    assert not left
