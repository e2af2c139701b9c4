"""Take the answers of the last commit where a change of params.yaml asks less than before, such as one set fewer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.core.disk import parse_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.paths import FEW_SHOT_ANSWERS, QUESTIONS
from finetune.core.records.settings import Questions
from finetune.core.sections.evaluate import ANSWERING
from finetune.project.history import git, md5_of, output_at
from finetune.project.restore import stages_in

HEAD = "HEAD"
SAME = ("provider", "base", "seed", *ANSWERING, "top_logprobs", "completion")


def committed_answers(stage: str, questions: Questions, files: Sequence[Path]) -> dict[Path, Any] | None:
    """Return the content of a stage's files in the last commit: JSON, or a list of rows for JSON Lines.

    None if that commit asked something else, or another model, or if DVC cannot fetch the files.
    """
    from ruamel.yaml.error import YAMLError

    try:
        inputs = stages_in(git("show", f"{HEAD}:./dvc.lock")).get(stage, {}).get("deps", ())
    except (YAMLError, ValueError, AttributeError):  # a damaged dvc.lock was committed
        return None
    if not inputs or not all(is_unchanged(one, questions) for one in inputs):
        return None
    try:
        if not asks_less(questions, json.loads(output_at(HEAD, QUESTIONS))):
            return None
        return {file: parsed(file, output_at(HEAD, file)) for file in files}
    except (FinetuneError, ValueError):
        return None


def is_unchanged(entry: dict[str, Any], questions: Questions) -> bool:
    """Return whether a dependency of dvc.lock has the same content now, or no longer matters."""
    path = Path(entry["path"])
    if path == QUESTIONS or (path == FEW_SHOT_ANSWERS and not questions["few_shot"]):
        return True
    return path.is_file() and md5_of(path.read_bytes()) == entry.get("md5")


def asks_less(now: Questions, before: Questions) -> bool:
    """Return whether less is asked now than before, and all of it in the same way.

    The same questions again are a wish to ask again, such as the rows that were refused.
    """
    return (
        now != before
        and all(now.get(key) == before.get(key) for key in SAME)
        and now["few_shot"] in ([], before["few_shot"])
        and set(now["compare"]) <= set(before["compare"])
        and now["also"].items() <= before["also"].items()
        and now["graders"].items() <= before["graders"].items()
        and now["judge"] in (None, before["judge"])
    )


def parsed(file: Path, text: str) -> Any:
    """Return the content of a JSON or JSON Lines file."""
    return parse_jsonl(text) if file.suffix == ".jsonl" else json.loads(text)
