"""Compare two fine-tunes of this project's history on the rows that both answered. No model is asked."""

import json
from collections.abc import Sequence
from pathlib import Path

from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import TUNED_ANSWERS
from finetune.core.read_records import read_model_record, read_prepare_report
from finetune.core.records import CommitComparison, ModelRecord, Prediction
from finetune.project.history import record_at
from finetune.scoring.paired_comparison import paired_difference, verdict
from finetune.scoring.prediction_scores import score_predictions

COMPARED_KEYS = ("model", "base", "seed", "hyperparameters", "trained_tokens", "usd", "verdict")


def compare_commits(params: Params, before: str, after: str | None) -> CommitComparison:
    """Return the metrics of both, the difference of `after` on the common rows, and how their records differ.

    `after` None is the current folder. Raises FinetuneError if a commit has no fine-tune, or if its predictions are not
    in this machine's cache.
    """
    (record, rows), (other_record, other_rows) = at(before), at(after)
    answers = {question_and_answer(row): row for row in rows}
    both = [(answers[key], row) for row in other_rows if (key := question_and_answer(row)) in answers]
    if not both:
        raise FinetuneError(
            f"{before} and {after or 'the current folder'} have no test row in common.",
            "Compare commits whose test splits are from the same data.",
        )
    prepared = read_prepare_report()
    one, other = (score_predictions(params, prepared, rows) for rows in zip(*both, strict=True))
    found = paired_difference(one.scores, other.scores)
    return {
        "n": len(both),
        "metric": other.metric,
        "left_out": len(rows) + len(other_rows) - 2 * len(both),
        "before": {"revision": before, **one.metrics},
        "after": {"revision": after or "here", **other.metrics},
        "lift": found,
        "verdict": verdict(other.metric, found, len(both)),
        "differences": {
            key: [record.get(key), other_record.get(key)]
            for key in COMPARED_KEYS
            if record.get(key) != other_record.get(key)
        },
    }


def question_and_answer(row: Prediction) -> tuple[str, str]:
    """Return what identifies a row in both commits."""
    return row["asked"], row["expected"]


def at(revision: str | None) -> tuple[ModelRecord, Sequence[Prediction]]:
    """Return the record and the tuned model's predictions of a commit, or those of the current folder."""
    if revision is None:
        return read_model_record(), read_jsonl(TUNED_ANSWERS, "tuned")
    return record_at(revision), [json.loads(line) for line in predictions_at(revision).splitlines()]


def predictions_at(revision: str) -> str:
    """Return the predictions file of a commit from DVC's cache. Raises FinetuneError if it is not there."""
    import dvc.api
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return str(dvc.api.read(TUNED_ANSWERS.as_posix(), repo=str(Path.cwd()), rev=revision, encoding="utf-8"))
    except (DvcException, SCMError, OSError) as error:
        raise FinetuneError(
            f"The predictions of {revision} are not in this machine's cache: {error}",
            f"Fetch them with: dvc fetch --all-commits. Or create them again: git checkout {revision}, then dvc repro",
        ) from error
