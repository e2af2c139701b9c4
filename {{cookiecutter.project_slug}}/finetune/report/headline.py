"""The first sentences of the report: whether tuning helped, against what, and how sure that is."""

from typing import Literal, NamedTuple

from finetune.core.records.evaluation import Evaluation, Metrics
from finetune.report.model_metrics import METRIC_NAMES, metric_label, metric_title, model_label, models
from finetune.report.number_formats import figure


class Headline(NamedTuple):
    """The comparison of the tuned model with another one."""

    result: Literal["better", "worse", "even"]
    clause: str  # such as "better by 43.8 points"
    certainty: str  # interval, p-value and rows
    against: str  # such as "the base model"


def headline(evaluation: Evaluation) -> Headline:
    """Return the comparison with the strongest of what else there is, or with the base in older evaluations."""
    rival = evaluation.get("rival")
    if rival is None:
        return comparison(evaluation["lift"], evaluation["metric"], "base")
    return comparison(rival, evaluation["metric"], str(rival["name"]))


def comparison(lift: Metrics, metric: str, other: str) -> Headline:
    """Split the verdict of a difference into its parts."""
    clause, _, certainty = str(lift["verdict"]).partition(" (")
    certainty = certainty.replace(")", "", 1).strip()
    clause = clause.replace(metric, metric_label(metric))
    for result in ("better", "worse"):
        if clause.startswith(f"{result} "):
            return Headline(result, clause, certainty, with_article(other))
    return Headline("even", clause, certainty, with_article(other))


def with_article(model: str) -> str:
    return {"base": "the base model", "few_shot": "the base model with examples"}.get(model, model_label(model))


def score_sentence(evaluation: Evaluation) -> str:
    """Return the first metric of tuned, of the strongest other model and of base in words."""
    metric, found = evaluation["metric"], models(evaluation)
    rival = str(evaluation.get("rival", {}).get("name", "base"))
    others = dict.fromkeys([rival, "base"])
    scores = [f"{figure(found[name][metric])} ({'base' if name == 'base' else with_article(name)})" for name in others]
    label = metric_title(evaluation, metric)
    title = label if metric in METRIC_NAMES else label[0].upper() + label[1:]
    return f"{title} {figure(evaluation['tuned'][metric])} (tuned) against {' and '.join(scores)}"


def unanswered_sentence(evaluation: Evaluation) -> str:
    """Return the comparison with the base on the rows that both answered; "" if these are all rows."""
    found = evaluation.get("lift_on_answered")
    if found is None:
        return ""
    failed = [
        f"the {name} model did not answer {count:,} of {evaluation['n']:,} test rows"
        for name, count in (("base", found["base_unanswered"]), ("tuned", found["tuned_unanswered"]))
        if count
    ]
    words = " and ".join(failed)
    verdict = found["verdict"].replace(evaluation["metric"], metric_label(evaluation["metric"]))
    return (
        f"{words[0].upper()}{words[1:]}, which count as wrong. On the {found['n']:,} rows that both answered: {verdict}"
    )


def rescued_sentence(evaluation: Evaluation) -> str:
    """Return the comparison with the rescued model, and whether the tuned one is as good; "" without a rescued one."""
    found = evaluation.get("rescued")
    if found is None:
        return ""
    verdict = str(found["verdict"]).replace(evaluation["metric"], metric_label(evaluation["metric"]))
    return f"Against the rescued model {found['model']}, by its recorded answers: {verdict}"


def base_sentence(evaluation: Evaluation) -> str:
    """Return the comparison with the base model; "" if it is the headline."""
    if evaluation.get("rival", {}).get("name", "base") == "base":
        return ""
    found = comparison(evaluation["lift"], evaluation["metric"], "base")
    return f"Against the base model: {found.clause} ({found.certainty})"
