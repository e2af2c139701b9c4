"""A project without the engine: neither its code nor torch, and all that works without it is tested there."""

import filecmp
import subprocess
from pathlib import Path

from conftest import files_of
from own_tests import PYTEST, run_together


def test_a_project_without_the_engine_has_neither_its_code_nor_torch(
    default: Path, set_up: dict[str, Path], chosen: list[str], is_quick: bool
) -> None:
    project = set_up["without"]
    assert not [name for name in files_of(project) if "engine" in name]
    # The extra `export` needs torch, and only who installs it does; `serve` names a launcher.
    others = ("tests/", "data/", "finetune/export/", "finetune/commands/serve.py", "docs/commands.md", "pyproject.toml")
    for name in (name for name in files_of(project) if not name.startswith(others)):
        assert "torch" not in (project / name).read_text(encoding="utf-8"), name
    code = [name for name in files_of(project) if name.endswith(".py")]
    assert filecmp.cmpfiles(project, default, code, shallow=False)[0] == code
    python = project / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 1
    # All tests of code that works without the engine; the default project does not run them again.
    tests = [str(path.relative_to(project)) for path in sorted((project / "tests").glob("test_*.py"))]
    parts = [[*PYTEST, *chosen, *tests[part::3]] for part in range(3)]
    lint = ["ruff", "check", "."] if is_quick else ["make", "lint"]  # types take a minute
    run_together(project, python.parent, [lint, *parts])
    shown = subprocess.run(
        [python, "-m", "finetune", "--help"], cwd=project, capture_output=True, text=True, check=True
    )
    assert "serve" not in shown.stdout
