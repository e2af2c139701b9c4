"""The workflow of a pull request: its permissions, and the comment that its shell writes in a real repository."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
WORKFLOW = YAML(typ="safe").load((ROOT / ".github/workflows/finetune.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["check"]["steps"]


SUMMARY = next(step for step in STEPS if step.get("name") == "List the changes")


def test_it_has_only_the_permissions_that_it_needs() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "permissions" not in WORKFLOW["jobs"]["check"]
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert len(used) == 2
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)


def test_no_text_of_a_pull_request_is_run_by_the_shell() -> None:
    assert not [step["run"] for step in STEPS if "${{" in step.get("run", "")]


def test_it_runs_only_free_stages() -> None:
    ran = " ".join(step.get("run", "") for step in STEPS)
    assert re.findall(r"dvc repro ?(\w*)", ran) == ["validate"]
    assert "fetch-depth" in STEPS[0]["with"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository on the branch `change`, ready to differ from `main` in metrics and parameters."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "t")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "t@example.com")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(project)
    git("init", "-q", "-b", "main")
    (project / ".dvc" / "config").touch()
    (project / "dvc.yaml").write_text("metrics: [scores.json]\nparams: [params.yaml]\n", encoding="utf-8")
    write("0.5", "1")
    git("add", "-A")
    git("commit", "-qm", "before")
    git("checkout", "-qb", "change")
    return project


def write(accuracy: str, n_epochs: str) -> None:
    Path("scores.json").write_text(f'{{"tuned": {{"accuracy": {accuracy}}}}}', encoding="utf-8")
    Path("params.yaml").write_text(f"train:\n  n_epochs: {n_epochs}\n", encoding="utf-8")


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def comment(folder: Path) -> str:
    """Run the step as GitHub's shell does, and return the comment."""
    summary = folder.with_name("summary.md")
    files = {"COMMENT": str(folder.with_name("comment.md")), "GITHUB_STEP_SUMMARY": str(summary)}
    more = {**SUMMARY["env"], "TARGET": "main", **files}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SUMMARY["run"]]
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, **more})
    text = Path(more["COMMENT"]).read_text(encoding="utf-8")
    assert summary.read_text(encoding="utf-8") == text
    return text


def test_the_comment_holds_metrics_parameters_and_the_report(repository: Path) -> None:
    write("0.75", "3")
    (repository / "reports").mkdir()
    (repository / "reports" / "report.md").write_text("# Fine-tune report\n\n## Cost\n", encoding="utf-8")
    git("add", "-A")
    git("commit", "-qm", "after")
    text = comment(repository)
    assert text.startswith("## What changes against `main`\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert ["scores.json", "tuned.accuracy", "0.5", "0.75", "0.25"] in rows
    assert ["params.yaml", "train.n_epochs", "1", "3"] in rows
    assert text.endswith("\n### Fine-tune report\n\n#### Cost\n")


def test_without_changes_the_comment_says_nothing_changed_and_a_long_report_is_cut(repository: Path) -> None:
    (repository / "reports").mkdir()
    (repository / "reports" / "report.md").write_text("é" * 70_000, encoding="utf-8")
    text = comment(repository)
    assert text.count("\nNothing.\n") == 2
    assert len(text) == 65_001
