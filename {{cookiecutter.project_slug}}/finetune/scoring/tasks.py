"""The kinds of task: what each row's score is, and which metrics are told of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from finetune.scoring.classify import classification, label_of
from finetune.scoring.extract import extraction
from finetune.scoring.generate import generation
from finetune.scoring.paired_comparison import interval, lift, verdict
from finetune.scoring.probabilities import (
    as_text,
    calibration_rows,
    class_probabilities,
    confidences,
    probability_metrics,
)

Task = Literal["classify", "extract", "generate"]
Tops = Sequence[Sequence[tuple[str, float | None]]]  # of each token the chosen one, then its alternatives


@dataclass(frozen=True)
class Scored:
    """A model's answers, scored: `rows` has one score for each, whose mean is the metric called `name`."""

    name: str
    rows: list[float]
    metrics: dict[str, Any]
    predicted: list[str]  # the class that each answer names, or the answer itself
    classes: list[dict[str, Any]] = field(default_factory=list)  # precision, recall and F1 of each class; for classify
    calibration: list[dict[str, Any]] = field(default_factory=list)  # where log-probabilities came with the answers
    confidence: list[float] = field(default_factory=list)  # likewise: in what was answered


def score(
    task: Task,
    expected: Sequence[str],
    answered: Sequence[str],
    labels: Sequence[str] = (),
    written: Sequence[str] = (),
    tops: Sequence[Tops] = (),
    beta: float | None = None,
    schema: Mapping[str, Any] | None = None,
) -> Scored:
    """The scores of answers. Raises ValueError without a row.

    For classify: `labels` are the classes in the order of tables, by default all that are expected; `written` each of
    them as the model writes it, where that is a code; `tops` has the log-probabilities of each answer's tokens. For
    extract, `schema` is a JSON Schema for the answers.
    """
    if not expected:
        raise ValueError("there is no row to score")
    if task == "extract":
        rows, shares = extraction(expected, answered, schema)
        return Scored("f1", rows, dict(shares), list(answered))
    if task == "generate":
        rows, told = generation(expected, answered)
        return Scored("chrf", rows, dict(told), list(answered))
    declared = list(labels) or sorted(set(expected))
    names = [*declared, *sorted(set(expected) - set(declared))]
    codes = [*(written or declared), *names[len(declared) :]]
    spelled = dict(zip(codes, names, strict=True))
    predicted = [spelled.get(label := label_of(answer, codes), label) for answer in answered]
    metrics = classification(expected, predicted, names, beta)
    table: list[dict[str, Any]] = metrics.pop("classes")
    rows = [float(a == b) for a, b in zip(expected, predicted, strict=True)]
    if not any(tops):
        return Scored("accuracy", rows, metrics, predicted, table)
    masses = [class_probabilities(as_text(answer), codes) for answer in tops]
    metrics |= probability_metrics(expected, masses, names)
    if not metrics["no_logprobs"]:
        del metrics["no_logprobs"]
    calibration, sure = calibration_rows(expected, masses, names), confidences(predicted, masses, names)
    return Scored("accuracy", rows, metrics, predicted, table, calibration, sure)


def report(models: Mapping[str, Scored]) -> dict[str, Any]:
    """The metrics of each model with the interval of the first, and what `tuned` is better by than each of the others.

    Flat and small, so that `dvc metrics diff` reads well: `tuned.accuracy`, `tuned.accuracy_low`, `lift.p_value`.
    """
    tuned = models["tuned"]
    told: dict[str, Any] = {"n": len(tuned.rows), "metric": tuned.name}
    for name, scored in models.items():
        low, high = interval(scored.rows)
        told[name] = {**scored.metrics, f"{scored.name}_low": low, f"{scored.name}_high": high}
        if name != "tuned":
            found = lift(scored.rows, tuned.rows)
            words = verdict(tuned.name, found, len(tuned.rows))
            key = "lift" if name == "base" else f"lift_over_{name}"
            size = {tuned.name: found["lift"], f"{tuned.name}_low": found["low"], f"{tuned.name}_high": found["high"]}
            rest = {k: found[k] for k in ("p_value", "test", "wins", "losses", "more_rows") if found[k] is not None}
            told[key] = {**size, **rest, "verdict": words}
    return told


def pairs(models: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """What each model is better by than each that comes before it."""
    told = []
    for (against, one), (model, other) in combinations(models.items(), 2):
        found = lift(one.rows, other.rows)
        words = verdict(other.name, found, len(other.rows))
        kept = {key: found[key] for key in ("low", "high", "p_value", "test")}
        told.append(
            {"model": model, "against": against, "n": len(other.rows), "difference": found["lift"], **kept}
            | {"verdict": words}
        )
    return told


def by_group(models: Mapping[str, Scored], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Each model's score over the rows of each group, with its interval; the largest group first."""
    counts = sorted(((groups.count(group), group) for group in set(groups)), key=lambda one: (-one[0], one[1]))
    told = []
    for n, group in counts:
        for model, scored in models.items():
            rows = [value for value, theirs in zip(scored.rows, groups, strict=True) if theirs == group]
            low, high = interval(rows)
            told.append(
                {"group": group, "model": model, "n": n, "score": round(sum(rows) / n, 4), "low": low, "high": high}
            )
    return told
