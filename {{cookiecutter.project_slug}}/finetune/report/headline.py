"""The first two sentences of the report: whether tuning helped, and how sure that is."""

from typing import Literal, NamedTuple

from finetune.core.records import Evaluation
from finetune.report.model_metrics import METRIC_NAMES, metric_label
from finetune.report.number_formats import figure


class Headline(NamedTuple):
    """The comparison of tuned and base."""

    result: Literal["better", "worse", "even"]
    clause: str  # such as "better by 43.8 points"
    certainty: str  # interval, p-value and rows


def headline(evaluation: Evaluation) -> Headline:
    """Split the verdict on the first metric into its parts."""
    clause, _, certainty = str(evaluation["lift"]["verdict"]).partition(" (")
    certainty = certainty.replace(")", "", 1).strip()
    metric = evaluation["metric"]
    clause = clause.replace(metric, METRIC_NAMES.get(metric, metric))
    for result in ("better", "worse"):
        if clause.startswith(f"{result} "):
            return Headline(result, clause, certainty)
    return Headline("even", "no difference shown", certainty)


def score_sentence(evaluation: Evaluation) -> str:
    """Return the first metric of tuned and base in words."""
    metric = evaluation["metric"]
    tuned, base = figure(evaluation["tuned"][metric]), figure(evaluation["base"][metric])
    name = METRIC_NAMES.get(metric) or metric_label(metric).capitalize()
    return f"{name} {tuned} (tuned) against {base} (base)"
