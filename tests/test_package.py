"""The template as an installed package generates the same projects as the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Bake, clean_environment, files_of
from test_template import QUESTIONS

UV = Path(sys.executable).parent / "uv"
COMMAND = "cookiecutter-dvc-finetune"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package as `make wheel` does: the wheel from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "--quiet", "--out-dir", folder, ROOT], check=True, env=clean_environment())
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment, compiled as pip does it, and return its command."""
    environment = tmp_path_factory.mktemp("empty") / "venv"
    python = environment / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    install = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, wheel]
    subprocess.run(install, check=True, env=clean_environment())
    assert list(environment.rglob("finetune/__pycache__")), "caches in the template, which must not get into projects"
    return python.with_name(COMMAND)


def run(command: Path, *options: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the installed command with an empty HOME and no terminal."""
    home = cwd / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [command, *options],
        cwd=cwd,
        env=clean_environment(HOME=str(home)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"starter": "extract", "provider": "openai", "project_name": "Équipe «triage»"},
        {"engine": False, "project_slug": "other_name"},
    ],
    ids=str,
)
def test_it_generates_the_same_bytes_as_the_repository(
    bake: Bake, command: Path, tmp_path: Path, answers: dict[str, str | bool]
) -> None:
    options = []
    for name, value in answers.items():
        option = name.replace("_", "-")
        options += [f"--no-{option}"] if value is False else [f"--{option}", str(value)]
    shown = run(command, "--no-input", "-o", "out", *options, cwd=tmp_path).stdout
    [project] = (tmp_path / "out").iterdir()
    assert f"cd {project.name}\n  make setup" in shown
    expected = bake(**answers)
    assert project.name == expected.name
    assert files_of(project) == files_of(expected)
    for name in files_of(project):
        assert (project / name).read_bytes() == (expected / name).read_bytes(), name
        assert os.access(project / name, os.X_OK) == os.access(expected / name, os.X_OK), name
    assert not list(project.rglob("__pycache__"))


def test_help_lists_each_question_and_its_choices(command: Path, tmp_path: Path) -> None:
    shown = run(command, "--help", cwd=tmp_path).stdout
    for name, default in QUESTIONS.items():
        if not name.startswith("_"):
            assert f"--{name.replace('_', '-')}" in shown
            assert not isinstance(default, list) or f"{{{','.join(default)}}}" in shown


def test_mistakes_are_said_in_a_sentence_and_write_nothing(command: Path, tmp_path: Path) -> None:
    slug = run(command, "--no-input", "--project-slug", "../x", cwd=tmp_path, code=1).stderr
    assert "error: project_slug '../x'" in slug
    assert "--starter" in run(command, "--starter", "none", cwd=tmp_path, code=2).stderr
    assert "→ Use --no-input" in run(command, cwd=tmp_path, code=1).stderr
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
    (tmp_path / "my-fine-tune").mkdir()
    assert "already exists\n→ Choose" in run(command, "--no-input", cwd=tmp_path, code=1).stderr


def test_the_version_is_in_one_place_and_the_changelog_begins_with_it(command: Path, tmp_path: Path) -> None:
    shown = run(command, "--version", cwd=tmp_path).stdout.strip()
    first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first
    assert shown == f"{COMMAND} {first[1]}"
