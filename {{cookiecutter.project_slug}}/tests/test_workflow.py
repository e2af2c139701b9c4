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
JOBS: dict[str, Any] = WORKFLOW["jobs"]
STEPS: list[dict[str, Any]] = JOBS["check"]["steps"]
ALL_STEPS: list[dict[str, Any]] = [step for job in JOBS.values() for step in job["steps"]]
SUMMARY, ESCAPE = (next(one for one in ALL_STEPS if one.get("name") == name) for name in ("List the changes", "Escape"))


def test_each_job_has_only_the_permissions_that_it_needs() -> None:
    assert WORKFLOW["permissions"] == {}
    found = {name: job["permissions"] for name, job in JOBS.items()}
    assert found == {"check": {"contents": "read"}, "comment": {"pull-requests": "write"}}
    assert WORKFLOW["on"] == "pull_request"


def test_the_code_of_a_pull_request_runs_without_write_permission_and_secrets() -> None:
    assert [step["name"] for step in JOBS["comment"]["steps"] if "run" in step] == ["Escape", "Comment"]
    assert not [step for step in JOBS["comment"]["steps"] if "checkout" in step.get("uses", "")]
    assert not re.search(r"secrets|token", str(JOBS["check"]))
    assert STEPS[0]["with"]["persist-credentials"] is False


def test_each_action_is_pinned_by_a_commit_with_its_version() -> None:
    text = (ROOT / ".github/workflows/finetune.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert len(used) == len([step for step in ALL_STEPS if "uses" in step]) == 4
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name) for name in used)


def test_no_text_of_a_pull_request_is_run_by_the_shell() -> None:
    assert not [step["run"] for step in ALL_STEPS if "${{" in step.get("run", "")]


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


def run_step(step: dict[str, Any], folder: Path, **environment: str) -> None:
    """Run a step as GitHub's shell does."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, **step["env"], **environment})


def comment(folder: Path) -> str:
    """Run the steps that write the comment, and return it."""
    summary, text = folder.with_name("summary.md"), folder.with_name("comment.md")
    run_step(SUMMARY, folder, TARGET="main", COMMENT=str(text), GITHUB_STEP_SUMMARY=str(summary))
    assert summary.read_bytes() == text.read_bytes()
    return escaped(text)


def escaped(text: Path) -> str:
    """Run the step that escapes the comment, and return it."""
    run_step(ESCAPE, text.parent, COMMENT=str(text))
    return text.read_text(encoding="utf-8")


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


def test_a_comment_can_hold_no_html_link_image_code_block_or_mention(repository: Path) -> None:
    evil = "<img src=x> <!-- hide ![i](https://x.example/i.png) [l](https://x.example) @octocat @組織/team #12 GH-7"
    Path("params.yaml").write_text(
        f'train:\n  n_epochs: 1\n  suffix: {evil!r}\n  system: "first\\n```\\n~~~\\n[a]: https://x.example"\n',
        encoding="utf-8",
    )
    (repository / "reports").mkdir()
    (repository / "reports" / "report.md").write_text(f"# Report\n{evil}\n```\n", encoding="utf-8")
    text = comment(repository)
    assert text.count("octocat") == 2
    assert "&lt;img src=x>" in text
    for wrong in ("<", "](", "![", "]:", "@octocat", "@組", "#12", "GH-7"):
        assert wrong not in text
    assert not [line for line in text.splitlines() if line.lstrip().startswith(("```", "~~~"))]
    assert "### Report" in text
