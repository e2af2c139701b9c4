"""Score the rows of a predictions file by the project's task, labels and codes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from finetune.core.class_labels import labels_of
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.records.answers import Prediction
from finetune.core.records.prepared import PrepareReport
from finetune.core.task import Task
from finetune.scoring.abstention import abstention
from finetune.scoring.answer_schema import load_schema
from finetune.scoring.class_masses import as_text, class_probabilities
from finetune.scoring.tasks import Scored, score


def score_predictions(
    params: Params, prepared: PrepareReport, rows: Sequence[Prediction], groups: Sequence[int] | None = None
) -> Scored:
    """Score a model's answers. Expected codes are replaced by their class names.

    `groups` has the group of each row, None if rows are independent.

    Raises FinetuneError if evaluate.schema is no JSON Schema, or evaluate.metric is none of the task's.
    """
    classes = class_of_code(prepared)
    settings = params.evaluate
    expected, answered = expected_of(rows, classes, settings.task), [*map(scored_text, rows)]
    schema: dict[str, Any] | None = load_schema(settings.answer_schema) if settings.answer_schema else None
    scored = score(
        settings.task,
        expected,
        answered,
        labels=list(classes.values()) or labels_of(params.data, prepared) or sorted(set(expected)),
        spellings=list(classes),
        logprobs=[row.get("logprobs", []) for row in rows],
        beta=settings.beta,
        schema=schema,
        groups=groups,
    )
    if phrase := prepared.get("abstain"):
        scored.metrics.update(abstention(expected, scored.predicted, phrase))
    return with_metric(scored, settings.metric or scored.metric)


def scored_text(row: Prediction) -> str:
    """Return the answer as it is scored. A refusal names no class, although "No, I cannot help" begins like one."""
    return "" if row.get("refused") else row["answer"]


def with_metric(scored: Scored, metric: str) -> Scored:
    """Return scores whose models are compared by a metric. Raises FinetuneError for one that has no row values."""
    if metric not in scored.values:
        raise FinetuneError(
            f"evaluate.metric: models cannot be compared by {metric!r}.",
            f"Give one of {', '.join(scored.values)}.",
        )
    return replace(scored, metric=metric)


def limited_to_classes(params: Params, prepared: PrepareReport, rows: Sequence[Prediction]) -> list[Prediction]:
    """Return a model's answers with the likeliest class in place of each; [] if no log-probabilities name one.

    A row whose log-probabilities name no class keeps its answer.
    """
    classes = class_of_code(prepared)
    names = list(classes) or labels_of(params.data, prepared) or sorted({row["expected"].strip() for row in rows})
    found: list[Prediction] = []
    changed = False
    for row in rows:
        masses = class_probabilities(as_text(row.get("logprobs", [])), names, bool(classes))
        likeliest = max(masses, default=0.0)  # not a number without log-probabilities
        answer = names[masses.index(likeliest)] if likeliest > 0 else row["answer"]
        changed = changed or likeliest > 0
        found.append({**row, "answer": answer})
        if likeliest > 0:
            found[-1].pop("refused", None)
    return found if changed else []


def class_of_code(prepared: PrepareReport) -> dict[str, str]:
    """Return the class of each code, in the order of the codes; {} in a project without data.codes."""
    known = prepared.get("codes", {})
    return {code: label for label, code in sorted(known.items(), key=lambda item: (len(item[1]), item[1]))}


def expected_of(rows: Sequence[Prediction], classes: dict[str, str], task: Task) -> list[str]:
    """Return the expected answer of each row; a code is replaced by its class. A class has no white space around it."""
    expected = [classes.get(row["expected"], str(row["expected"])) for row in rows]
    return [name.strip() for name in expected] if task == "classify" else expected
