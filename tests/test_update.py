"""`cruft update` keeps what the user changed, and a project that is up to date does not train again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project, clean_environment

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="cruft reads pyproject.toml from Python 3.11 on")
CRUFT = str(Path(sys.executable).parent / "cruft")
SLUG = next(ROOT.glob("*cookiecutter.project_slug*")).name
OURS = "# ours\n"
OWN_CODE = "finetune/ours.py"
# What UPGRADING.md says for projects that were generated before pyproject.toml had the list.
SKIP = ["params.yaml", "models.toml", "data/raw", "data/also/*.jsonl", "data/replay/*.jsonl", "reports/ledger.csv"]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=clean_environment(), check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def copy_tracked(target: Path) -> None:
    """Copy the files of this repository that Git knows, as they are now."""
    for name in git(ROOT, "ls-files", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def make_older(template: Path) -> None:
    """Change today's template to an older one: code, texts, the starter, parameters and files differ."""
    project = template / SLUG
    for name in ("finetune/data/split.py", "finetune/stages/train.py", "README.md", "dvc.yaml"):
        text = (project / name).read_text(encoding="utf-8")
        (project / name).write_text(text + "\n# A comment of the older version.\n", encoding="utf-8")
    (project / "finetune" / "gone.py").write_text(
        '"""A file that today\'s version does not have."""\n', encoding="utf-8"
    )
    (project / "docs" / "sweeps.md").unlink()
    starter = project / "starters" / "classify"
    rows = (starter / "data" / "messages.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (starter / "data" / "messages.csv").write_text("".join(rows[:-1]), encoding="utf-8")
    parameters = template / "templates" / "params.yaml"
    parameters.write_text(parameters.read_text(encoding="utf-8").replace("seed: 42", "seed: 41"), encoding="utf-8")


def last_release(template: Path) -> None:
    """Put the last commit of the version before this one into `template`; skip where the history is not there."""
    shallow = git(ROOT, "rev-parse", "--is-shallow-repository").strip() == "true"
    changed = git(ROOT, "log", "-1", "--format=%H", "-G^version = ", "--", "pyproject.toml").strip()
    if shallow or not changed:
        pytest.skip("this clone has no history")
    archive = subprocess.run(["git", "archive", f"{changed}~1"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=template, input=archive, check=True)


def commit_all(folder: Path) -> None:
    git(folder, "add", "-A", "--force")
    git(folder, "commit", "-qm", "x")


@pytest.fixture
def versions(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a repository of the template with an older version at `older`, and today's at its branch."""
    template = tmp_path / "template"
    template.mkdir()
    git(template, "init", "-q", "-b", "main")
    if request.param == "made":
        copy_tracked(template)
        make_older(template)
    else:
        last_release(template)
    commit_all(template)
    git(template, "tag", "older")
    git(template, "rm", "-rqf", ".")
    copy_tracked(template)
    commit_all(template)
    return template


def change(project: Project) -> dict[str, str]:
    """Change parameters, prompt, code and data as a user does. Return what must be in which file after the update."""
    raw = project.path / "data" / "raw" / "messages.csv"
    lines = [line for line in raw.read_text(encoding="utf-8").splitlines() if line.count('"') % 2 == 0 and "," in line]
    raw.write_text("\n".join([*lines[:90], "Where is the parcel for Ana?,delivery"]) + "\n", encoding="utf-8")
    project.set("train.base", "tiny")
    project.set("train.n_epochs", 1)
    project.set("data.prompt.user", "Route this: {message}")
    code = project.path / "finetune" / "scoring" / "classify.py"
    code.write_text(code.read_text(encoding="utf-8") + OURS, encoding="utf-8")
    (project.path / OWN_CODE).write_text(OURS, encoding="utf-8")
    readme = project.path / "README.md"
    readme.write_text(OURS + readme.read_text(encoding="utf-8"), encoding="utf-8")
    whole = ("params.yaml", "data/raw/messages.csv", OWN_CODE)
    return {"finetune/scoring/classify.py": OURS, "README.md": OURS} | {
        name: (project.path / name).read_text(encoding="utf-8") for name in whole
    }


@pytest.fixture
def project(versions: Path, binaries: Path, tmp_path: Path) -> Project:
    """Return a project of the older version that `cruft create` made, committed."""
    (tmp_path / "home").mkdir()
    create = [CRUFT, "create", str(versions), "--checkout", "older", "--no-input", "--output-dir", str(tmp_path)]
    environment = clean_environment(HOME=str(tmp_path / "home"))
    subprocess.run(create, env=environment, check=True, capture_output=True)
    project = Project(tmp_path / "my-fine-tune", binaries, tmp_path / "finetune-home")
    if "[tool.cruft]" not in (project.path / "pyproject.toml").read_text(encoding="utf-8"):
        state = project.path / ".cruft.json"
        state.write_text(json.dumps(json.loads(state.read_text(encoding="utf-8")) | {"skip": SKIP}), encoding="utf-8")
    project.commit()
    return project


def update(project: Project) -> None:
    """Bring the project to today's version, and commit it. There must be no conflict."""
    home = {"HOME": str(project.path.parent / "home")}
    project.run(CRUFT, "check", "--checkout", "main", code=1, **home)
    project.run(CRUFT, "update", "-y", "--checkout", "main", **home)
    project.run(CRUFT, "check", **home)
    assert not [line for line in project.run("git", "status", "--short").stdout.splitlines() if "U" in line[:2]]
    project.commit()


def assert_kept(project: Project, mine: dict[str, str]) -> None:
    """Assert that the user's texts are there, and otherwise the files of today's version."""
    for name, text in mine.items():
        assert text in (project.path / name).read_text(encoding="utf-8"), name
    today = {name.split("/", 1)[1] for name in git(ROOT, "ls-files", "-z", SLUG).split("\0") if name}
    code = {name for name in today if name.endswith(".py")}
    assert code == {name for name in git(project.path, "ls-files").splitlines() if name.endswith(".py")} - {OWN_CODE}
    for name in (code | {"dvc.yaml"}) - set(mine):
        assert (project.path / name).read_bytes() == (ROOT / SLUG / name).read_bytes(), name


@pytest.mark.parametrize("versions", ["release"], indirect=True)
def test_an_update_from_the_last_release_loses_nothing(project: Project) -> None:
    mine = change(project)
    project.commit()
    update(project)
    assert_kept(project, mine)


@pytest.mark.slow
@pytest.mark.parametrize("versions", ["made"], indirect=True)
def test_an_update_trains_nothing_again(project: Project, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, project.home / "bases" / "tiny")
    mine = change(project)
    project.commit()
    project.repro("train")
    project.commit()
    [(job, status)] = project.jobs()
    assert status == "succeeded"
    update(project)
    assert_kept(project, mine)
    # Their code has changed, and they cost nothing; what they write has the same bytes.
    assert project.repro("train") == ["prepare", "validate"]
    assert project.jobs() == [(job, status)]
    assert project.run("git", "status", "--short").stdout == " M dvc.lock\n"
