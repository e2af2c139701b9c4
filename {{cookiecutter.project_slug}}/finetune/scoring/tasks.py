"""Score answers by the kind of task: a score for each row, and the metrics of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from finetune.core.records.answers import Alternatives
from finetune.core.records.evaluation import Metrics
from finetune.core.task import Task
from finetune.scoring.calibration import CalibrationBin, calibration_bins
from finetune.scoring.class_masses import as_text, class_masses
from finetune.scoring.class_reading import read_class
from finetune.scoring.classify import classification, name_of_no_class
from finetune.scoring.design_effect import Values
from finetune.scoring.extract import extraction, share
from finetune.scoring.generate import generation
from finetune.scoring.jackknife import class_metric_values
from finetune.scoring.probability_matrix import confidences
from finetune.scoring.probability_metrics import probability_metrics, probability_values

ClassRow = TypedDict("ClassRow", {"class": str, "precision": float, "recall": float, "f1": float, "n": int})


@dataclass(frozen=True)
class Scored:
    """A model's answers with their scores."""

    metric: str  # the one that models are compared by
    scores: list[float]  # of each answer; their mean is the task's first metric
    metrics: Metrics
    predicted: list[str]  # the class that each answer names, or the answer itself
    classes: list[ClassRow] = field(default_factory=list)  # for classify
    calibration: list[CalibrationBin] = field(default_factory=list)  # if log-probabilities came with the answers
    confidence: list[float] = field(default_factory=list)  # the same: the probability of each answered class
    values: Mapping[str, Values] = field(default_factory=dict)  # by metric: of each answer; their mean is the metric
    probability_values: Mapping[str, Values] = field(default_factory=dict)  # the same for those of probabilities

    @property
    def compared(self) -> Values:
        """The values of the metric that models are compared by."""
        return self.values.get(self.metric, self.scores)


def score(
    task: Task,
    expected: Sequence[str],
    answered: Sequence[str],
    labels: Sequence[str] = (),
    spellings: Sequence[str] = (),
    logprobs: Sequence[Sequence[Alternatives]] = (),
    beta: float | None = None,
    schema: Mapping[str, Any] | None = None,
    groups: Sequence[int] | None = None,
) -> Scored:
    """Score answers. Raises ValueError if there is no row.

    For classify: `labels` are the classes in the order of tables, by default those that occur in `expected`;
    `spellings` is each class as the model writes it, if that is a code; `logprobs` are those of each answer's tokens.
    For extract: `schema` is a JSON Schema for the answers. `groups` has the group of each row, None if rows are
    independent.
    """
    if not expected:
        raise ValueError("there is no row to score")
    if task == "extract":
        values, metrics = extraction(expected, answered, schema, groups)
        return Scored("f1", [*values["f1"]], metrics, list(answered), values=values)
    if task == "generate":
        values, metrics = generation(expected, answered)
        return Scored("chrf", [*values["chrf"]], metrics, list(answered), values=values)
    return score_classes(expected, answered, labels, spellings, logprobs, beta, groups)


def score_classes(
    expected: Sequence[str],
    answered: Sequence[str],
    labels: Sequence[str],
    spellings: Sequence[str],
    logprobs: Sequence[Sequence[Alternatives]],
    beta: float | None,
    groups: Sequence[int] | None,
) -> Scored:
    """Score answers that name a class; a class that only the rows have is added after the declared ones."""
    declared = list(labels) or sorted(set(expected))
    names = [*declared, *sorted(set(expected) - set(declared))]
    codes = [*(spellings or declared), *names[len(declared) :]]
    spelled: dict[str | None, str] = {**dict(zip(codes, names, strict=True)), None: name_of_no_class(names)}
    readings = [read_class(answer, codes, bool(spellings)) for answer in answered]
    predicted = [spelled[one.label] for one in readings]
    metrics: Metrics = classification(expected, predicted, names, beta)
    table: list[ClassRow] = metrics.pop("classes")
    metrics["lenient"] = share([one.label is not None and not one.is_exact for one in readings])
    metrics["no_class"] = share([one.label is None for one in readings])
    if len(names) == 2:
        metrics["positive_class"] = names[1]  # what precision, recall, F-beta, AUROC and AUPRC are about
    scores = [float(a == b) for a, b in zip(expected, predicted, strict=True)]
    values: dict[str, Values] = {**class_metric_values(expected, predicted, names, beta, groups), "accuracy": scores}
    if not any(logprobs):
        return Scored("accuracy", scores, metrics, predicted, table, values=values)
    read = [class_masses(as_text(answer), codes, bool(spellings)) for answer in logprobs]
    masses, unseen = [one for one, _ in read], [hidden for _, hidden in read]
    metrics |= probability_metrics(expected, predicted, masses, names, unseen)
    if not metrics["no_logprobs"]:
        del metrics["no_logprobs"]
    bins, sure = calibration_bins(expected, predicted, masses, names), confidences(predicted, masses, names)
    contributions = probability_values(expected, masses, names, unseen)
    return Scored("accuracy", scores, metrics, predicted, table, bins, sure, values, contributions)
