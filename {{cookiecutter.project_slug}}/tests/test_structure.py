"""The structure of the code: what may import what, and the dependencies of the stages."""

import ast
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "finetune"
# Each room may import the rooms listed with it, and nothing else.
MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"commands", "core"},
    "commands": {"stages", "rescue", "asking", "project", "data", "provider", "report", "terminal", "pricing", "core"},
    "stages": {"export", "asking", "project", "data", "provider", "scoring", "report", "terminal", "pricing", "core"},
    "export": {"asking", "project", "data", "provider", "scoring", "terminal", "core"},
    "rescue": {"asking", "project", "data", "provider", "terminal", "pricing", "core"},
    "asking": {"project", "data", "provider", "scoring", "terminal", "pricing", "core"},
    "project": {"provider", "scoring", "terminal", "pricing", "core"},
    "data": {"core"},
    "provider": {"pricing", "core"},
    "scoring": {"pricing", "core"},
    "report": {"core"},
    "terminal": {"core"},
    "pricing": {"core"},
    "core": set(),
    "engine": set(),
}
# The two files that start the engine. All other code uses it only by HTTP.
STARTS_THE_ENGINE = {PACKAGE / "provider" / "connect.py", PACKAGE / "commands" / "serve.py"}
# The files and rooms of the engine: each may import only those after it.
ENGINE = ["embedded", "server_process", "api", "batch_runner", "batch_input", "batch_results", "batch_queue"]
ENGINE += ["job_queue", "uploads"]
ENGINE += ["worker", "training_run", "attempts", "trainer_events", "publishing", "adapters", "training"]
ENGINE += ["worker_launcher", "launcher", "inference", "request_body", "chat_template"]
ENGINE += [
    "completion_prompt",
    "conversation",
    "chat_messages",
    "field_errors",
    "tool_calls",
    "native_tool_format",
    "tool_format",
    "control_tokens",
    "fingerprint",
    "bases",
    "gguf_conversion",
    "presets",
    "devices",
    "allocator",
    "context_length",
]
ENGINE += ["database_check", "store", "database", "home", "os_errors", "digests", "ids", "schema"]
ENGINE += ["api_errors", "client_text", "jsonl", "__init__"]


def module_path(name: str) -> Path | None:
    path = ROOT / Path(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def imports_of(path: Path) -> set[Path]:
    """Return the files of this package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "finetune":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [node.module or ""] if not all(module_path(name) for name in names) else []
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "finetune"]
        found |= {module for name in names if (module := module_path(name))}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_point_down() -> None:
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        allowed = MAY_IMPORT.get(room, set()) | {room} | ({"engine"} if path in STARTS_THE_ENGINE else set())
        for other in imports_of(path):
            assert room_of(other) in allowed, f"{path.relative_to(ROOT)} imports {other.relative_to(ROOT)}"


def test_imports_of_the_engine_point_down() -> None:
    def part_of(path: Path) -> str:
        return path.relative_to(PACKAGE / "engine").parts[0].removesuffix(".py")

    for path in (PACKAGE / "engine").rglob("*.py"):
        for other in imports_of(path):
            if part_of(other) != part_of(path):
                assert ENGINE.index(part_of(path)) < ENGINE.index(part_of(other)), f"{path.name} imports {other.name}"


def test_the_trainer_knows_no_database_and_no_server() -> None:
    """It is a program between two folders, which may run where neither of them is.

    The lock is for the base in the box, which only a trainer beside the server makes.
    """
    seen: set[Path] = set()
    waiting = list((PACKAGE / "engine" / "training").glob("*.py"))
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += imports_of(path)
    names = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in seen}
    assert not names & {
        "engine/store",
        "engine/database",
        "engine/worker",
        "engine/worker_launcher",
        "engine/launcher",
        "engine/bases",
    }
    assert not any(name.startswith("engine/api/") for name in names)
    for path in seen:
        roots = {one.split(".")[0] for one in packages_of(path)}
        assert not roots & {"sqlite3", "starlette", "uvicorn"}, path
        assert "filelock" not in roots or path.stem == "gguf_conversion", path


def packages_of(path: Path) -> set[str]:
    """Return the names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_every_room_is_in_the_map() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms <= set(MAY_IMPORT)
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    for room in rooms - {"__main__", "cli", "engine"}:
        assert f"`{room}/`" in page, f"the map in docs/how-it-works.md lacks {room}/"


def test_no_file_imports_itself_through_others() -> None:
    graph = {path: imports_of(path) - {path} for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    done: set[Path] = set()

    def visit(path: Path, above: tuple[Path, ...]) -> None:
        assert path not in above, " → ".join(str(one.relative_to(ROOT)) for one in (*above, path))
        if path not in done:
            for other in graph.get(path, ()):
                visit(other, (*above, path))
            done.add(path)

    for path in graph:
        visit(path, ())


def test_stages_are_exactly_those_of_the_pipeline() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__"} == set(stages)
    assert all(stage["desc"] for stage in stages.values())


def test_paid_stages_do_not_depend_on_code() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in ("upload", "train", "baseline", "tuned"):
        assert not [dep for dep in stages[name]["deps"] if dep.startswith("finetune/")]


def test_stages_that_pay_depend_on_what_validate_wrote_and_on_no_parameter() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    decided_by = {"upload": "checked", "train": "training", "baseline": "questions", "tuned": "questions"}
    for name, file in decided_by.items():
        assert "params" not in stages[name]
        assert f"data/prepared/{file}.json" in stages[name]["deps"]


def test_text_files_are_opened_with_their_encoding() -> None:
    """Without one, Windows takes another."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--preview", "--select", "PLW1514", str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
