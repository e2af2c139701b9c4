"""Compare two fine-tunes of this project's history on the rows that both answered. No model is asked."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from finetune.core.disk import parse_json, parse_jsonl, read_json, read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import ANSWERED_BY, TEST_ROWS, TUNED_ANSWERS
from finetune.core.read_records import read_model_record, read_prepare_report
from finetune.core.records.answers import AnsweredBy, Prediction
from finetune.core.records.evaluation import CommitComparison
from finetune.core.records.prepared import TestRow
from finetune.core.records.training import ModelRecord
from finetune.project.history import output_at, record_at
from finetune.scoring.evaluation import difference
from finetune.scoring.paired_comparison import verdict
from finetune.scoring.prediction_scores import score_predictions

COMPARED_KEYS = ("model", "base", "seed", "hyperparameters", "trained_tokens", "usd", "verdict")


class Side(NamedTuple):
    """A fine-tune of this project: its record, and the tuned model's answers with what is known of their rows."""

    record: ModelRecord
    answers: Sequence[Prediction]
    rows: Sequence[TestRow]  # [] in commits of earlier versions


def compare_commits(params: Params, before: str, after: str | None) -> CommitComparison:
    """Return the metrics of both, the difference of `after` on the common rows, and how their records differ.

    `after` None is the current folder. Raises FinetuneError if a commit has no fine-tune, or if its predictions are not
    in this machine's cache.
    """
    one, other = at(before), at(after)
    both = common_rows(one, other)
    if not both:
        raise FinetuneError(
            f"{before} and {after or 'the current folder'} have no test row in common.",
            "Compare commits whose test splits are from the same data.",
        )
    prepared = read_prepare_report()
    groups = [other.rows[row]["group"] for _, row in both] if other.rows else None
    scored = score_predictions(params, prepared, [one.answers[row] for row, _ in both], groups)
    other_scored = score_predictions(params, prepared, [other.answers[row] for _, row in both], groups)
    found = difference(scored, other_scored, groups)
    return {
        "n": len(both),
        "metric": other_scored.metric,
        "left_out": len(one.answers) + len(other.answers) - 2 * len(both),
        "before": {"revision": before, **scored.metrics},
        "after": {"revision": after or "here", **other_scored.metrics},
        "lift": found,
        "verdict": verdict(other_scored.metric, found, len(both)),
        "differences": {
            key: [one.record.get(key), other.record.get(key)]
            for key in COMPARED_KEYS
            if one.record.get(key) != other.record.get(key)
        },
    }


def at(revision: str | None) -> Side:
    """Return the fine-tune of a commit, or that of the current folder."""
    if revision is None:
        record, answers = read_model_record(), read_jsonl(TUNED_ANSWERS, "tuned", Prediction)
        rows, answered_by = read_jsonl(TEST_ROWS, "prepare", TestRow), read_json(ANSWERED_BY, "tuned", AnsweredBy)
    else:
        record, answers = record_at(revision), parse_jsonl(output_at(revision, TUNED_ANSWERS))
        try:
            rows = parse_jsonl(output_at(revision, TEST_ROWS))
            text = output_at(revision, ANSWERED_BY)
        except FinetuneError:  # a commit of an earlier version
            return Side(record, answers, [])
        answered_by = parse_json(text.encode(), f"{ANSWERED_BY} of {revision}", "Compare another commit.", AnsweredBy)
    if answered_by["model"] != record["model"]:
        raise FinetuneError(
            f"The predictions of {revision or 'the current folder'} are those of {answered_by['model']}, and its record"
            f" is of {record['model']}.",
            "Ask this model with: dvc repro tuned",
        )
    return Side(record, answers, rows if len(rows) == len(answers) else [])


def common_rows(one: Side, other: Side) -> list[tuple[int, int]]:
    """Return the places of the rows that both answered, in the order of the other side.

    Rows are the same if their whole questions and expected answers are; a question that occurs several times is paired
    by its number. Where the questions differ, as with another system prompt, or are not known, rows are the same if the
    last question and the expected answer are, and occur once on each side.
    """
    pairs = dict(matches(*(numbered([row["question"] for row in s.rows], s.answers) for s in (one, other))))
    known = set(pairs.values())
    rest = [once(one.answers, known), once(other.answers, pairs.keys())]
    pairs |= {place: where for place, where in matches(*rest) if place not in pairs}
    return [(where, place) for place, where in sorted(pairs.items())]


def matches(one: Mapping[Hashable, int], other: Mapping[Hashable, int]) -> Iterator[tuple[int, int]]:
    """Yield the place in the other side and in the one of each key that both have."""
    yield from ((place, one[key]) for key, place in other.items() if key in one)


def numbered(questions: Sequence[str], answers: Sequence[Prediction]) -> dict[Hashable, int]:
    """Return the place of each row by its question, its expected answer and how often they occurred before."""
    times = Counter[Hashable]()
    found: dict[Hashable, int] = {}
    for place, (question, row) in enumerate(zip(questions, answers, strict=False)):
        key = (question, row["expected"])
        found[(key, times[key])] = place
        times[key] += 1
    return found


def once(answers: Sequence[Prediction], known: Collection[int]) -> dict[Hashable, int]:
    """Return the place of each row whose last question and expected answer no other row has, except the known ones."""
    times = Counter((row["asked"], row["expected"]) for row in answers)
    keys = ((place, (row["asked"], row["expected"])) for place, row in enumerate(answers) if place not in known)
    return {key: place for place, key in keys if times[key] == 1}
