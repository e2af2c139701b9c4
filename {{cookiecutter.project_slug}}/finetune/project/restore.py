"""Say how the former outputs of a failed stage come back: DVC deletes them before each run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from finetune.core.damage import remedy_for
from finetune.project.history import git, project_folder

PIPELINE, LOCK = Path("dvc.yaml"), Path("dvc.lock")


def how_to_restore(stage: str) -> str | None:
    """Return a sentence with the command that restores the stage's outputs; None if it had none, or none is missing.

    It is None in the workspace of an experiment too, which DVC removes. Outputs of the last commit come from
    Git and DVC's cache. Those of a later run, which no commit has, come from DVC's run cache, when the parameters and
    files are again what they were.
    """
    from ruamel.yaml.error import YAMLError

    if project_folder() != Path.cwd():
        return None
    former: Any = None
    entry: dict[str, Any] = {}
    for path in (LOCK, PIPELINE):
        try:
            found = stages_in(path.read_text(encoding="utf-8")).get(stage) if path.is_file() else None
        except (YAMLError, ValueError, AttributeError, OSError):
            remedy = remedy_for(path, content_of(path), f"Restore it with: git checkout {path}")
            return f"{path} is damaged, too. {remedy}"
        former, entry = (found, entry) if path == LOCK else (former, found or {})
    outputs = dict(output for kind in ("outs", "metrics", "plots") for output in map(is_cached, entry.get(kind, ())))
    missing = [path for path in outputs if not Path(path).exists()]
    if not former or not missing:
        return None
    try:
        committed = stages_in(git("show", "HEAD:./dvc.lock")).get(stage)
    except (YAMLError, ValueError, AttributeError):
        committed = None
    if former != committed:
        return f"The former outputs of {stage} come back when you undo your last change and run: dvc repro {stage}"
    in_git = sorted(path for path in missing if not outputs[path])
    commands = [f"git checkout {' '.join(in_git)}"] if in_git else []
    commands += [f"dvc checkout {stage}"] if any(outputs.values()) else []
    return f"Restore the former outputs of {stage} with: {' && '.join(commands)}"


def content_of(path: Path) -> bytes:
    """Return the bytes of a file; none where it cannot be read."""
    with suppress(OSError):
        return path.read_bytes()
    return b""


def stages_in(text: str) -> dict[str, Any]:
    """Return the stages in the text of dvc.yaml or dvc.lock, by name."""
    from ruamel.yaml import YAML

    return (YAML(typ="safe").load(text) or {}).get("stages") or {}


def is_cached(entry: Any) -> tuple[str, bool]:
    """Return an output's path, and whether DVC keeps it in its cache; other outputs are in Git."""
    if isinstance(entry, str):
        return entry, True
    [(path, options)] = entry.items()
    return path, options.get("cache", True)
