"""Generated projects, and the one installed environment that the tests share, in two processes too."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter
from filelock import FileLock

ROOT = Path(__file__).parents[1]
Bake = Callable[..., Path]
# These begin first, so that two processes end at about the same time.
LONGEST = ("test_template", "test_without_engine", "test_pipeline", "test_exports", "test_default")
collect_ignore = ["clients"]  # each runs in its own environment: see test_clients.py and `make clients`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; the tests of each stay in their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without the outer virtual environment, paths and keys, which would leak into a project.

    Nor has it the size of a terminal, which Python's readline sets for children, and which tables follow. And modules
    may be compiled once, as for users, also where the outer environment forbids it: each process would do it again.
    """
    python = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
    leaks = (*python, "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "COLUMNS", "LINES")
    kept = {key: value for key, value in os.environ.items() if key not in leaks and not key.endswith("_API_KEY")}
    git = {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return kept | git | {"DVC_NO_ANALYTICS": "1"} | more


def files_of(project: Path) -> set[str]:
    """Return all files of a project except those of Git and the caches of tools."""
    left = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache"}
    return {
        path.relative_to(project).as_posix()
        for path in project.rglob("*")
        if path.is_file() and not left & set(path.relative_to(project).parts)
    }


class Project:
    """A generated project. Its commands run with the programs of the shared environment."""

    def __init__(self, path: Path, binaries: Path, home: Path) -> None:
        self.path, self.binaries, self.home = path, binaries, home
        self.temporary = home.with_name(f"{home.name}-temporary")  # checked to be empty at the end
        self.temporary.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.binaries}{os.pathsep}{os.environ['PATH']}"
        return clean_environment(PATH=path, FINETUNE_HOME=str(self.home), TMPDIR=str(self.temporary))

    def run(self, *command: str, code: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command, and return it when it has finished. Its exit status must be `code`; None allows any."""
        done = subprocess.run(
            command, cwd=self.path, env={**self.environment, **more}, capture_output=True, text=True, check=False
        )
        assert code is None or done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`, and return the names of the stages that ran."""
        output = self.run("dvc", "repro", *arguments).stdout
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def stage(self, *arguments: str, code: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-m", "finetune", *arguments, code=code, **more)

    def set(self, dotted: str, value: object) -> None:
        """Change one parameter in params.yaml, in place."""
        from ruamel.yaml import YAML

        yaml = YAML()
        file = self.path / "params.yaml"
        values = yaml.load(file)
        *parents, last = dotted.split(".")
        section = values
        for name in parents:
            section = section[name]
        section[last] = value
        yaml.dump(values, file)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "x")

    def clone(self, path: Path) -> "Project":
        self.run("git", "clone", "-q", str(self.path), str(path))
        return Project(path, self.binaries, self.home)

    def jobs(self) -> list[tuple[str, str]]:
        """Return ID and status of each job of this home's engine."""
        import sqlite3

        database = self.home / "engine.db"
        if not database.exists():
            return []
        db = sqlite3.connect(database)
        try:
            return db.execute("SELECT id, status FROM jobs ORDER BY n").fetchall()
        finally:
            db.close()


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Return a function from answers to the folder of a new project."""

    def bake(**answers: object) -> Path:
        target = tmp_path_factory.mktemp("baked")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # cookiecutter's replay file
            return Path(cookiecutter(str(ROOT), no_input=True, output_dir=str(target), extra_context=answers))

    return bake


@pytest.fixture(scope="session")
def chosen(pytestconfig: pytest.Config) -> list[str]:
    """Return the options that choose a project's tests by the expression that chose these: the marks are the same."""
    return ["-m", str(pytestconfig.option.markexpr)]


@pytest.fixture(scope="session")
def is_quick(chosen: list[str]) -> bool:
    """Return whether this is `make test`."""
    return "not slow" in chosen[1]


@pytest.fixture(scope="session")
def set_up(bake: Bake, tmp_path_factory: pytest.TempPathFactory, worker_id: str, is_quick: bool) -> dict[str, Path]:
    """Set up two projects once for all processes that run tests: see `make_set_up`."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    with FileLock(shared / "set-up.lock"):
        made = shared / "set-up.json"
        if not made.exists():
            projects = make_set_up(bake, is_quick)
            made.write_text(json.dumps({name: str(project) for name, project in projects.items()}), encoding="utf-8")
    return {name: Path(project) for name, project in json.loads(made.read_text(encoding="utf-8")).items()}


def make_set_up(bake: Bake, is_quick: bool) -> dict[str, Path]:
    """Run `make setup` in the default project and in one without the engine, at the same time.

    The first is installed with pip, unless it must be quick, and the other with uv. pip compiles nothing: Python does
    it for the few modules that are imported.
    """
    projects = {"default": bake(), "without": bake(engine=False, provider="openai")}
    found = str(Path(sys.executable).parent / "uv")
    uv = {"default": found if is_quick else "", "without": found}
    running = [
        subprocess.Popen(
            ["make", "setup", f"UV={uv[name]}"],
            cwd=project,
            env=clean_environment(PIP_COMPILE="0"),
            stdout=subprocess.DEVNULL,
        )
        for name, project in projects.items()
    ]
    assert [process.wait() for process in running] == [0, 0]
    return projects


@pytest.fixture(scope="session")
def default(bake: Bake) -> Path:
    """Return the default project, to be read only."""
    return bake()


@pytest.fixture(scope="session")
def installed(set_up: dict[str, Path]) -> Path:
    return set_up["default"]


@pytest.fixture(scope="session")
def binaries(installed: Path) -> Path:
    return installed / ".venv" / "bin"


@pytest.fixture(scope="session")
def tiny_base(binaries: Path, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a base of two layers."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    subprocess.run(
        [binaries / "python", installed / "tests" / "engine" / "tiny.py", folder], check=True, env=clean_environment()
    )
    return folder


def assert_processes_end(home: Path) -> None:
    """Assert that no process of a FINETUNE_HOME lives on. A server ends only after an import that it has begun."""
    end = time.monotonic() + 60
    while left := subprocess.run(["pgrep", "-af", str(home)], capture_output=True, text=True, check=False).stdout:
        assert time.monotonic() < end, f"processes are still running: {left}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def tiny(bake: Bake, binaries: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Yield a committed project that trains the tiny base on few rows. It has its own FINETUNE_HOME."""
    home = tmp_path_factory.mktemp("finetune-home")
    shutil.copytree(tiny_base, home / "bases" / "tiny")
    project = Project(bake(), binaries, home)
    raw = project.path / "data" / "raw" / "messages.csv"
    # Few rows, of one line each: the tiny base has a token for each byte.
    lines = [line for line in raw.read_text(encoding="utf-8").splitlines() if line.count('"') % 2 == 0 and "," in line]
    raw.write_text("\n".join(lines[:90]) + "\n", encoding="utf-8")
    general = project.path / "data" / "also" / "general.jsonl"
    general.write_text("".join(general.read_text(encoding="utf-8").splitlines(keepends=True)[:20]), encoding="utf-8")
    project.set("train.base", "tiny")
    project.set("train.n_epochs", 2)
    project.commit()
    yield project
    assert_processes_end(home)
    assert not list(project.temporary.iterdir()), "temporary files are left"


def install_extras(extras: str, project: Path, binaries: Path, overlay: Path) -> None:
    """Make an environment in `overlay` with a project's extras, and with the packages of the shared environment."""
    subprocess.run([binaries / "python", "-m", "venv", "--without-pip", overlay], check=True, env=clean_environment())
    shared, own = (next((folder / "lib").glob("python*/site-packages")) for folder in (binaries.parent, overlay))
    (own / "shared.pth").write_text(f"import site; site.addsitedir({str(shared)!r})\n", encoding="utf-8")
    install = ["install", "--quiet", "--no-compile", "-e", f".[{extras}]", "-c", "constraints.txt"]
    pip = [binaries / "python", "-m", "pip", "--disable-pip-version-check", "--python", overlay / "bin" / "python"]
    subprocess.run([*pip, *install], cwd=project, check=True, env=clean_environment(), stderr=subprocess.DEVNULL)
