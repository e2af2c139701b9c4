"""What a fine-tune starts from: a base model, a fine-tuned one, or the model of an earlier commit."""

import json
import subprocess
from typing import Any

from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import MODEL


def start_of(params: Params) -> tuple[str, list[str]]:
    """The model to train from, and the fine-tuned models that led to it, the first one first.

    Raises FinetuneError when `train.from` names no commit with a record, or one of another base or provider.
    """
    revision = params.train.continue_from
    if revision is None:
        base = params.train.base
        return base, [base] if base.startswith("ft:") else []
    record = record_at(revision)
    for key, ours in (("provider", params.provider.name), ("base", params.train.base)):
        if record.get(key) != ours:
            raise FinetuneError(
                f"train.from is {revision!r}, whose model has the {key} {record.get(key)!r}, not {ours!r}.",
                f"Set {'provider.name' if key == 'provider' else 'train.base'} to that, or choose another commit.",
            )
    return record["model"], [*record.get("lineage", []), record["model"]]


def record_at(revision: str) -> dict[str, Any]:
    """The model's record as it was committed."""
    command = ["git", "show", f"{revision}:./{MODEL.as_posix()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FinetuneError(
            f"train.from is {revision!r}, and Git finds no {MODEL} there: {done.stderr.strip() or 'no reason given'}",
            "Name a commit or a tag that holds a fine-tune; list them with: git log --oneline -- models/model.json",
        )
    return dict(json.loads(done.stdout))
