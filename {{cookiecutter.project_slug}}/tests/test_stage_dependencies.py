"""Each stage that costs nothing depends on all code that it runs and on all files that it reads."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from answered import write_answers
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
FREE = [name for name, stage in STAGES.items() if any(dep.startswith("finetune/") for dep in stage["deps"])]

# Run one stage, then print the modules that were imported, the files that were read, and the network addresses.
SPY = """
import json, os, sys
read, connected = set(), []

def spy(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, (str, os.PathLike)) and not flags & (os.O_WRONLY | os.O_RDWR):
            read.add(os.path.abspath(path))
    elif event == "socket.connect":
        connected.append(repr(arguments[1]))

sys.addaudithook(spy)
from importlib import import_module
from finetune.core.params import load_params
stage = import_module("finetune.stages." + sys.argv[1])
stage.run() if sys.argv[1] == "report" else stage.run(load_params())
modules = {name: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(json.dumps({"read": sorted(read), "modules": modules, "connected": connected}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy this project, with settings that make its stages read more files."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("finetune", "data", "params.yaml", "dvc.yaml", "models.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "prepared"))
        else:
            shutil.copy(source, folder / name)
    values = YAML(typ="safe").load((folder / "params.yaml").read_text(encoding="utf-8"))
    (folder / "data/also/answer.json").write_text('{"type": "array"}', encoding="utf-8")
    values["evaluate"]["schema"] = "data/also/answer.json"
    values["evaluate"]["graders"] = {"short": {"type": "python", "source": "def grade(sample, item): return 1.0"}}
    YAML().dump(values, folder / "params.yaml")
    return folder


@pytest.fixture(scope="module")
def seen(project: Path) -> dict[str, dict[str, Any]]:
    """Run the free stages in order, and return what each imported, read and connected to. Other files are invented."""
    environment = {**os.environ, "PYTHONPATH": str(project), "FINETUNE_HOME": str(project / "home")}
    found = {}
    for name in FREE:
        if name == "evaluate":
            write_answers(project)
        done = subprocess.run(
            [sys.executable, "-B", "-c", SPY, name],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def depends_on(stage: str, path: str) -> bool:
    """Return whether a path of the project is a dependency of a stage, or inside one."""
    return any(path == dep or path.startswith(f"{dep}/") for dep in STAGES[stage]["deps"])


def has_code(path: Path) -> bool:
    """Return whether a file has more than a docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def outputs_of(stage: str) -> set[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in STAGES[stage].get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def test_the_free_stages_are_known() -> None:
    assert FREE == ["prepare", "validate", "evaluate", "export", "report"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", FREE)
def test_a_free_stage_depends_on_all_modules_that_it_imports(
    project: Path, seen: dict[str, dict[str, Any]], stage: str
) -> None:
    for file in seen[stage]["modules"].values():
        path = Path(file)
        if path.is_relative_to(project) and has_code(path):
            inside = path.relative_to(project).as_posix()
            assert depends_on(stage, inside), f"{stage} runs {inside}"


@pytest.mark.slow
@pytest.mark.parametrize("stage", FREE)
def test_a_free_stage_depends_on_all_files_that_it_reads(
    project: Path, seen: dict[str, dict[str, Any]], stage: str
) -> None:
    home = project / "home"
    for file in seen[stage]["read"]:
        path = Path(file)
        if not path.is_relative_to(project) or path.is_relative_to(home) or path.is_dir():
            continue
        inside = path.relative_to(project).as_posix()
        code = path.suffix in (".py", ".pyc")  # the test above
        if not code and path.exists() and inside != "params.yaml" and inside not in outputs_of(stage):
            assert depends_on(stage, inside), f"{stage} reads {inside}"


@pytest.mark.slow
def test_evaluate_and_report_use_no_network(seen: dict[str, dict[str, Any]]) -> None:
    for stage in ("evaluate", "report"):
        assert seen[stage]["connected"] == []
        names = set(seen[stage]["modules"])
        assert not [name for name in names if name.split(".")[0] in ("openai", "httpx2", "torch", "transformers")]
        assert not [name for name in names if name.startswith(("finetune.provider", "finetune.engine"))]


def test_dvc_ignores_caches_in_folders_of_code(project: Path) -> None:
    ignored = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    assert {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"} <= set(ignored)


def test_git_ignores_every_output_in_dvcs_cache() -> None:
    """DVC would write a .gitignore into the folder of an output that is missing in ours."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    outs = [path for stage in STAGES.values() for path in stage.get("outs", ()) if isinstance(path, str)]
    assert [path for path in outs if f"/{path}" not in ignored] == []
