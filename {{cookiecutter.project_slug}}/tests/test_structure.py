"""The shape of the code and of the pipeline: what may import what, and what DVC is told of it."""

import ast
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "finetune"
ROOMS = ["cli", "stages", "data", "provider", "scoring", "report", "engine", "shared"]
MAY_IMPORT = {
    "cli": {"cli", "stages", "data", "provider", "report", "engine", "shared"},
    "stages": {"stages", "data", "provider", "scoring", "report", "shared"},
    "data": {"data", "shared"},
    "provider": {"provider", "shared"},
    "scoring": {"scoring", "shared"},
    "report": {"report", "shared"},
    "engine": {"engine"},
    "shared": {"shared"},
}


def module_path(name: str) -> Path | None:
    path = ROOT / Path(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def imports_of(path: Path) -> set[Path]:
    """The files of this package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("finetune"):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
            modules = [module_path(name) for name in names]
            found |= {m for m in modules if m and m.name != "__init__.py"}
    return found


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py").replace("commands", "cli")
    return first if first in ROOMS else "cli" if first == "__main__" else "shared"


def test_imports_point_down() -> None:
    for path in PACKAGE.rglob("*.py"):
        for other in imports_of(path):
            allowed = MAY_IMPORT[room_of(path)] | ({"cli"} if path.name == "__main__.py" else set())
            if path == PACKAGE / "provider" / "connect.py":
                allowed = allowed | {"engine"}
            assert room_of(other) in allowed, f"{path.name} imports {other}"


def test_the_free_stages_depend_on_all_the_code_they_run() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in ("prepare", "validate", "report"):
        seen: set[Path] = set()
        todo = {PACKAGE / "stages" / f"{name}.py"}
        while todo:
            path = todo.pop()
            seen.add(path)
            # The engine is a provider like others: its address is all that a stage has of it.
            todo |= {other for other in imports_of(path) - seen if room_of(other) != "engine"}
        listed = {ROOT / dep for dep in stages[name]["deps"] if dep.endswith(".py")}
        assert listed == seen


def test_paid_stages_do_not_depend_on_code() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in ("upload", "train", "baseline"):
        assert not [dep for dep in stages[name]["deps"] if dep.startswith("finetune/")]
    assert all(stage["desc"] for stage in stages.values())
