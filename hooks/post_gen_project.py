"""Keep the chosen starter, remove an unwanted engine, create a Git repository, and print the next commands."""

import json
import shutil
import subprocess
from pathlib import Path

ANSWERS = json.loads(
    r"""
{{ cookiecutter | jsonify }}
"""
)
ENGINE_PATHS = (
    "finetune/engine",
    "tests/engine",
    "docs/engine.md",
    "docs/launchers.md",
    "docs/recipes.md",
    "constraints-engine.txt",
    "requirements-engine.lock",
)


def keep_starter(root: Path, name: str) -> None:
    """Move the starter's files to where the pipeline reads them."""
    starter = root / "starters" / name
    shutil.move(starter / "params.yaml", root / "params.yaml")
    shutil.move(starter / "data", root / "data" / "raw")
    shutil.rmtree(root / "starters")


def remove_engine(root: Path) -> None:
    """Delete the engine's code, tests, document and constraints."""
    for name in ENGINE_PATHS:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def init_git(root: Path) -> None:
    """Create a repository, because DVC needs one. Nothing is staged or committed, so that `cruft update` works."""
    inside = subprocess.run(["git", "rev-parse", "--git-dir"], cwd=root, capture_output=True, check=False)
    if not (root / ".git").exists() and (inside.returncode != 0 or inside.stdout.strip() != b".git"):
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=False)


def main() -> int:
    root = Path.cwd()
    (root / "data").mkdir(exist_ok=True)
    keep_starter(root, ANSWERS["starter"])
    if not ANSWERS["engine"]:
        remove_engine(root)
    init_git(root)
    slug = ANSWERS["project_slug"]
    print(f"\nNext:\n  cd {slug}\n  make setup")
    print("  git add . && git commit -m 'Start'\n  . .venv/bin/activate && dvc repro")
    print("Or with your own data, before dvc repro:\n  finetune init FILE\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
