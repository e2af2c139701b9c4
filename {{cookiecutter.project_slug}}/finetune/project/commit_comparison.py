"""Two fine-tunes of this project's history on the rows that both answered: no question is asked anew."""

import json
from pathlib import Path
from typing import Any

from finetune.core.disk import read_json, read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import MODEL
from finetune.project.history import record_at
from finetune.scoring.paired_comparison import lift, verdict
from finetune.stages.evaluate import PREDICTIONS, scores

SHOWN = ("model", "base", "seed", "hyperparameters", "trained_tokens", "usd", "verdict")

Rows = list[dict[str, Any]]


def run(params: Params, before: str, after: str | None) -> dict[str, Any]:
    """The metrics of both, what `after` is better by on the rows in common, and where their records differ.

    `after` None is what lies here. Raises FinetuneError where a commit has no fine-tune, or its predictions are not in
    this machine's cache.
    """
    (record, rows), (other_record, other_rows) = at(before), at(after)
    answers = {identity(row): row for row in rows}
    both = [(answers[identity(row)], row) for row in other_rows if identity(row) in answers]
    if not both:
        raise FinetuneError(
            f"{before} and {after or 'what lies here'} have no test row in common.",
            "Their test splits are of other data.",
        )
    one, other = scores(params, [pair[0] for pair in both]), scores(params, [pair[1] for pair in both])
    found = lift(one.rows, other.rows)
    return {
        "n": len(both),
        "metric": other.name,
        "left_out": len(rows) + len(other_rows) - 2 * len(both),
        "before": {"revision": before, **one.metrics},
        "after": {"revision": after or "here", **other.metrics},
        "lift": found,
        "verdict": verdict(other.name, found, len(both)),
        "differences": {
            key: [record.get(key), other_record.get(key)] for key in SHOWN if record.get(key) != other_record.get(key)
        },
    }


def identity(row: dict[str, Any]) -> tuple[str, str]:
    return row["asked"], row["expected"]


def at(revision: str | None) -> tuple[dict[str, Any], Rows]:
    """The record and the tuned model's predictions of a commit, or those that lie here."""
    if revision is None:
        return read_json(MODEL, "train"), read_jsonl(PREDICTIONS, "evaluate")
    return record_at(revision), [json.loads(line) for line in predictions_at(revision).splitlines()]


def predictions_at(revision: str) -> str:
    import dvc.api
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return str(dvc.api.read(PREDICTIONS.as_posix(), repo=str(Path.cwd()), rev=revision, encoding="utf-8"))
    except (DvcException, SCMError, OSError) as error:
        raise FinetuneError(
            f"The predictions of {revision} are not in this machine's cache: {error}",
            "Fetch them with: dvc fetch --all-commits; or make them anew there: git checkout, then dvc repro",
        ) from error
