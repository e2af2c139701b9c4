"""Compare two fine-tunes of this project's history on the rows that both answered. No model is asked."""

from collections.abc import Sequence

from finetune.core.disk import parse_jsonl, read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import TUNED_ANSWERS
from finetune.core.read_records import read_model_record, read_prepare_report
from finetune.core.records import CommitComparison, ModelRecord, Prediction
from finetune.project.history import output_at, record_at
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
    return record_at(revision), parse_jsonl(output_at(revision, TUNED_ANSWERS))
