"""Find the command that restores the former outputs of a failed stage: DVC deletes them before each run."""

from pathlib import Path
from typing import Any

from finetune.project.history import git

PIPELINE = Path("dvc.yaml")


def command_to_restore(stage: str) -> str | None:
    """Return the command that restores a stage's outputs as the last commit has them.

    None if nothing is missing, or the last commit has no outputs of this stage.
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    if not PIPELINE.is_file() or stage not in ((yaml.load(git("show", "HEAD:./dvc.lock")) or {}).get("stages") or {}):
        return None
    entry = yaml.load(PIPELINE.read_text(encoding="utf-8"))["stages"].get(stage, {})
    outputs = dict(output for kind in ("outs", "metrics", "plots") for output in map(is_cached, entry.get(kind, ())))
    missing = [path for path in outputs if not Path(path).exists()]
    if not missing:
        return None
    in_git = sorted(path for path in missing if not outputs[path])
    commands = [f"git checkout {' '.join(in_git)}"] if in_git else []
    return " && ".join([*commands, f"dvc checkout {stage}"] if any(outputs.values()) else commands)


def is_cached(entry: Any) -> tuple[str, bool]:
    """Return an output's path, and whether DVC keeps it in its cache; other outputs are in Git."""
    if isinstance(entry, str):
        return entry, True
    [(path, options)] = entry.items()
    return path, options.get("cache", True)
