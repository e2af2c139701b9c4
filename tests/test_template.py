"""What the template generates, for every answer to every question."""

import ast
import csv
import filecmp
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, Bake, Project, files_of
from cookiecutter.exceptions import CookiecutterException
from cookiecutter.main import cookiecutter
from own_tests import PYTEST, run_together

TEMPLATE = next(ROOT.glob("*cookiecutter.project_slug*"))
JINJA = re.compile(r"\{[%]")
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
# The last starter and the last provider stand for the others in `make test`.
STARTERS, PROVIDERS = QUESTIONS["starter"], QUESTIONS["provider"]
ONE_AT_A_TIME = [
    {},
    {"project_name": "Équipe d'appui — «triage»"},
    {"starter": STARTERS[-1]},
    {"provider": PROVIDERS[-1]},
    pytest.param({"project_slug": "other_name"}, marks=pytest.mark.slow),
    *(pytest.param({"starter": name}, marks=pytest.mark.slow) for name in STARTERS[1:-1]),
    *(pytest.param({"provider": name}, marks=pytest.mark.slow) for name in PROVIDERS[1:-1]),
]
# The project's tests that read files which the answers change, such as params.yaml.
TESTS_OF_ANSWERS = ("test_cli.py", "test_params.py")


def test_there_are_at_most_six_questions_and_each_has_a_prompt() -> None:
    public = [key for key in QUESTIONS if not key.startswith("_")]
    assert len(public) <= 6
    assert set(QUESTIONS["__prompts__"]) == set(public)


def test_the_default_project_has_exactly_the_files_of_the_template(bake: Bake) -> None:
    project = bake()
    tracked = subprocess.run(["git", "ls-files", str(TEMPLATE)], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = {line.split("/", 1)[1].rstrip('"') for line in tracked.stdout.splitlines()}
    chosen = "starters/classify/"
    expected = {
        name.replace(f"{chosen}data", "data/raw").replace(f"{chosen}params.yaml", "params.yaml")
        for name in expected
        if name.startswith(chosen) or not name.startswith("starters/")
    }
    assert files_of(project) == expected
    assert (project / ".git").is_dir()
    for name in files_of(project):
        text = (project / name).read_text(encoding="utf-8")
        assert "cookiecutter." not in text
        # Chat templates and the report's templates are Jinja too; the project renders them.
        assert name.endswith(".jinja") or not JINJA.search(text), name


def test_code_and_pipeline_contain_no_jinja() -> None:
    for path in [*TEMPLATE.rglob("*.py"), TEMPLATE / "dvc.yaml"]:
        text = path.read_text(encoding="utf-8")
        assert "cookiecutter." not in text, path
        assert not JINJA.search(text), path
        if path.suffix == ".py":
            ast.parse(text)


def test_the_template_folder_passes_the_linter(binaries: Path) -> None:
    """Types are checked in the default project, whose code has the same bytes."""
    for command in (["ruff", "check", "--no-cache", "."], ["ruff", "format", "--no-cache", "--check", "."]):
        done = subprocess.run(
            [binaries / command[0], *command[1:]], cwd=TEMPLATE, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("answers", ONE_AT_A_TIME, ids=lambda answers: "-".join(answers.values()) or "default")
def test_lint_types_and_tests_pass(
    bake: Bake, binaries: Path, default: Path, chosen: list[str], is_quick: bool, answers: dict[str, str]
) -> None:
    """Other tests read only code, which has the same bytes for all answers: test_without_engine.py runs them, once."""
    project = bake(**answers)
    same, ours = (
        {name for name in files_of(folder) if not name.startswith("data/raw/")} for folder in (default, project)
    )
    assert same == ours
    code = [name for name in same if name.endswith((".py", ".csv", ".yml", "dvc.yaml"))]
    assert filecmp.cmpfiles(project, default, code, shallow=False)[0] == code
    commands = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        [*PYTEST, *(f"tests/{name}" for name in TESTS_OF_ANSWERS)],
    ]
    if not answers:
        engine = [str(path.relative_to(project)) for path in sorted((project / "tests" / "engine").glob("test_*.py"))]
        faults = "tests/engine/test_faults.py"
        engine.remove(faults)
        # Many parts, the longest first, so that none is left alone at the end.
        of_faults = ("at_the_creation", "every_step", "not every_fault")
        tests = [[*PYTEST, *chosen, faults, "-k", part] for part in of_faults]
        tests += [[*PYTEST, *chosen, *engine[part::6]] for part in range(6)]
        if not is_quick:
            tests.insert(0, ["mypy"])
        commands = [*tests, [*PYTEST, "tests/test_structure.py"], *commands]
    run_together(project, binaries, commands)


@pytest.mark.slow
def test_uv_and_pip_install_the_same_versions(set_up: dict[str, Path]) -> None:
    """The default project was installed with pip, the other one with uv."""
    versions = {}
    for name, project in set_up.items():
        command = [project / ".venv" / "bin" / "python", "-m", "pip", "freeze", "--exclude-editable"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        # Of torch, a system may have its own build, such as 2.13.0+cpu.
        versions[name] = {re.sub("[-_.]+", "-", line.split("+")[0].lower()) for line in lines}
    assert len(versions["without"]) > 100
    assert versions["without"] <= versions["default"]
    pins = [line.split(" ;")[0] for file in TEMPLATE.glob("constraints*.txt") for line in file.read_text().splitlines()]
    assert versions["default"] <= {re.sub("[-_.]+", "-", pin.lower()) for pin in pins}


@pytest.mark.parametrize("slug", ["a b", "../x", 'ok"; import os', "", "-x", "Ünder", "a/b", "x" + '"""' + "\n"])
def test_hostile_slugs_are_refused_with_a_message(tmp_path: Path, slug: str) -> None:
    code = (
        "import json, sys; from cookiecutter.main import cookiecutter;"
        "cookiecutter(sys.argv[1], no_input=True, output_dir=sys.argv[2], extra_context={'project_slug': sys.argv[3]})"
    )
    target = tmp_path / "out"
    target.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(target), slug], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert slug == "" or "error: project_slug" in done.stderr
    assert not [path for path in target.rglob("*") if path.is_file()]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("provider", "why"), [("nebius", "nebius does not"), ("azure", "azure does only with models")])
def test_a_starter_that_the_provider_cannot_train_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], provider: str, why: str
) -> None:
    answers = {"starter": "prefer", "provider": provider}
    with pytest.raises(CookiecutterException):
        cookiecutter(str(ROOT), no_input=True, output_dir=str(tmp_path), extra_context=answers)
    assert f"error: the starter prefer trains on preferences (DPO), which {why}" in capfd.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ['ok"; import os; os.mkdir("owned")', "../../x", "{{ 1 + 1 }}", 'a """ b', "naïve\\n"])
def test_hostile_names_are_harmless(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    try:
        project = Path(
            cookiecutter(
                str(ROOT), no_input=True, output_dir=str(tmp_path / "out"), extra_context={"project_name": name}
            )
        )
    except CookiecutterException:
        assert list((tmp_path / "out").iterdir()) == []
    else:
        assert project.parent == tmp_path / "out"
        assert name in (project / "README.md").read_text(encoding="utf-8") or "{{" in name
    assert not list(tmp_path.rglob("owned"))


def test_the_questions_list_the_projects_providers_and_starters(binaries: Path, installed: Path) -> None:
    """cookiecutter reads only cookiecutter.json for its questions, so the names are repeated there."""
    code = "from finetune.core.profiles import PROFILES; print(*PROFILES)"
    done = subprocess.run([binaries / "python", "-c", code], cwd=installed, capture_output=True, text=True, check=True)
    assert done.stdout.split() == QUESTIONS["provider"]
    assert {path.name for path in (TEMPLATE / "starters").iterdir()} == set(QUESTIONS["starter"])


def grams(text: str) -> frozenset[str]:
    """Return all sequences of four letters in a text."""
    folded = " ".join(text.lower().split())
    return frozenset(folded[i : i + 4] for i in range(max(1, len(folded) - 3)))


def questions_of(project: Path) -> list[str]:
    """Return the question of each row of a project's starter."""
    [file] = (project / "data" / "raw").iterdir()
    with open(file, encoding="utf-8", newline="") as rows:
        if file.suffix == ".csv":
            return [next(iter(row.values())) for row in csv.DictReader(rows)]
        return [(row.get("input") or row)["messages"][0]["content"] for row in map(json.loads, rows)]


@pytest.mark.parametrize("starter", QUESTIONS["starter"])
def test_a_starter_has_enough_rows_and_no_near_duplicates(bake: Bake, starter: str) -> None:
    """Then no test row is near a training row, in any split."""
    sets = [grams(text) for text in questions_of(bake(starter=starter))]
    assert len(sets) >= 200
    for i, one in enumerate(sets):
        for other in sets[i + 1 :]:
            shared = len(one & other)
            assert shared <= 0.45 * (len(one) + len(other) - shared)


@pytest.mark.slow
@pytest.mark.parametrize("starter", STARTERS)
def test_a_starter_passes_its_own_checks(bake: Bake, binaries: Path, tmp_path: Path, starter: str) -> None:
    project = Project(bake(starter=starter), binaries, tmp_path / "home")
    project.stage("prepare")
    assert "no mistakes" in project.stage("validate").stdout


def test_the_classes_of_the_default_starter_are_unbalanced(bake: Bake) -> None:
    with open(bake() / "data" / "raw" / "messages.csv", encoding="utf-8", newline="") as file:
        teams = Counter(row["team"] for row in csv.DictReader(file))
    assert sum(teams.values()) >= 400
    assert len(teams) == 8
    assert min(teams.values()) >= 25
    assert max(teams.values()) >= 2 * min(teams.values())
