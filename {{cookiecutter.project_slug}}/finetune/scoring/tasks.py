"""The kinds of task: what each row's score is, and which metrics are told of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from finetune.scoring.classify import classification, label_of
from finetune.scoring.compare import interval, lift, verdict
from finetune.scoring.extract import extraction
from finetune.scoring.generate import generation

Task = Literal["classify", "extract", "generate"]


@dataclass(frozen=True)
class Scored:
    """A model's answers, scored: `rows` has one score for each, whose mean is the metric called `name`."""

    name: str
    rows: list[float]
    metrics: dict[str, Any]
    predicted: list[str]  # the class that each answer names, or the answer itself
    classes: list[dict[str, Any]]  # precision, recall and F1 of each class; none but for classify


def score(task: Task, expected: Sequence[str], answered: Sequence[str], labels: Sequence[str]) -> Scored:
    """The scores of answers; `labels` are the classes, for classify. Raises ValueError without a row."""
    if not expected:
        raise ValueError("there is no row to score")
    if task == "extract":
        rows, metrics = extraction(expected, answered)
        return Scored("f1", rows, metrics, list(answered), [])
    if task == "generate":
        rows, told = generation(expected, answered)
        return Scored("chrf", rows, dict(told), list(answered), [])
    predicted = [label_of(answer, labels) for answer in answered]
    found = classification(expected, predicted, labels)
    classes = found.pop("classes")
    return Scored(
        "accuracy", [float(a == b) for a, b in zip(expected, predicted, strict=True)], found, predicted, classes
    )


def report(models: dict[str, Scored]) -> dict[str, Any]:
    """The metrics of each model with the interval of the first, and what `tuned` is better by than each of the others.

    Flat and small, so that `dvc metrics diff` reads well: `tuned.accuracy`, `tuned.accuracy_low`, `lift.p_value`.
    """
    tuned = models["tuned"]
    told: dict[str, Any] = {"n": len(tuned.rows)}
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
