"""The workflows of the template and of its projects, and the versions of the tools that check commits."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

PROJECT = next(ROOT.glob("*cookiecutter.project_slug*"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
USES = re.compile(r"uses: (.*)")


def test_zizmor_finds_nothing() -> None:
    zizmor = Path(sys.executable).parent / "zizmor"
    command = [zizmor, "--offline", "--no-progress", ROOT / ".github", PROJECT / ".github"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_actions_are_those_of_the_projects_workflow_and_codeql_pinned_by_commits(file: Path) -> None:
    known = set(USES.findall((PROJECT / ".github" / "workflows" / "finetune.yml").read_text(encoding="utf-8")))
    text = file.read_text(encoding="utf-8")
    others = set(USES.findall(text)) - known
    assert all(re.fullmatch(r"github/codeql-action/[a-z]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name) for name in others)
    assert len({name.partition("@")[2] for name in others}) <= 1
    assert YAML(typ="safe").load(text)["permissions"] == {}


def test_only_the_job_that_publishes_gets_a_token() -> None:
    jobs = {
        name: job for file in WORKFLOWS for name, job in YAML(typ="safe").load(file.read_text("utf-8"))["jobs"].items()
    }
    assert {name for name, job in jobs.items() if "id-token" in job["permissions"]} == {"publish"}
    assert not [step for step in jobs["publish"]["steps"] if "checkout" in step.get("uses", "")]


def test_the_tiers_of_tests_are_the_same_here_in_a_project_and_in_ci() -> None:
    ours, theirs = ((folder / "Makefile").read_text(encoding="utf-8") for folder in (ROOT, PROJECT))
    for target in ("test", "test-all", "test-further"):
        expression = re.search(rf"^{target}: MARKED :=(.*)$", ours, re.MULTILINE)
        command = re.search(rf"^{target}: setup\n.*pytest -q(?: -m '(.*)')?$", theirs, re.MULTILINE)
        assert expression
        assert command
        assert expression[1].strip() == (command[1] or "")
    steps = YAML(typ="safe").load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]["test"][
        "steps"
    ]
    ran = {step["run"]: step["if"] for step in steps if ".ci/run" in step.get("run", "")}
    weekly = "github.event_name == 'schedule'"
    assert ran == {".ci/run test-all": weekly.replace("==", "!="), ".ci/run test-further": weekly}


@pytest.mark.parametrize("folder", [ROOT, PROJECT], ids=["template", "project"])
def test_hooks_have_the_versions_of_make_lint(folder: Path) -> None:
    hooks = (folder / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pins = dict(re.findall(r"([\w-]+)==([\d.]+)", hooks))
    for file in (folder / "pyproject.toml", PROJECT / "pyproject.toml", PROJECT / "constraints.txt"):
        for name, version in re.findall(r"([\w-]+)==([\d.]+)", file.read_text(encoding="utf-8")):
            assert pins.get(name, version) == version, f"{name} in {file.name}"
    assert {"ruff", "pre-commit-hooks", "detect-secrets", "nbstripout"} <= set(pins)
