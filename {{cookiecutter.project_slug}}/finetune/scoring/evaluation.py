"""Combine the scores of all models: metrics with intervals, and the tuned model compared with each of the others."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from finetune.core.evaluated_models import set_model
from finetune.core.records import GroupRow, Metrics, PairRow
from finetune.scoring.paired_comparison import interval, paired_difference, verdict
from finetune.scoring.tasks import Scored


def compare_models(models: Mapping[str, Scored]) -> dict[str, Any]:
    """Return the metrics of each model with the interval of the first metric, and `lift` of the tuned model over each.

    Our names are flat, so that `dvc metrics diff` is easy to read: `tuned.accuracy`, `tuned.accuracy_low`,
    `lift.p_value`. Names that users choose are under `compared`.
    """
    tuned = models["tuned"]
    report: dict[str, Any] = {"n": len(tuned.scores), "metric": tuned.metric}
    for name, scored in models.items():
        low, high = interval(scored.scores)
        metrics = {**scored.metrics, f"{scored.metric}_low": low, f"{scored.metric}_high": high}
        set_model(report, name, metrics)
        if name == "tuned":
            continue
        lift = lift_over(scored, tuned)
        if name == "base":
            report["lift"] = lift
        elif name == "few_shot":
            report["lift_over_few_shot"] = lift
        else:
            metrics["lift"] = lift
    return report


def lift_over(other: Scored, tuned: Scored) -> Metrics:
    """Return how much better the tuned model is than another, under the name of the metric."""
    found = paired_difference(other.scores, tuned.scores)
    size = {tuned.metric: found["lift"], f"{tuned.metric}_low": found["low"], f"{tuned.metric}_high": found["high"]}
    rest: Metrics = {"p_value": found["p_value"], "test": found["test"]}
    rest |= {"wins": found["wins"], "losses": found["losses"]}
    if found["more_rows"] is not None:
        rest["more_rows"] = found["more_rows"]
    return {**size, **rest, "verdict": verdict(tuned.metric, found, len(tuned.scores))}


def pairs(models: Mapping[str, Scored]) -> list[PairRow]:
    """Return a row for each pair of models: how much better the later one is."""
    rows: list[PairRow] = []
    for (against, one), (model, other) in combinations(models.items(), 2):
        found = paired_difference(one.scores, other.scores)
        rows.append(
            {
                "model": model,
                "against": against,
                "n": len(other.scores),
                "difference": found["lift"],
                "low": found["low"],
                "high": found["high"],
                "p_value": found["p_value"],
                "test": found["test"],
                "verdict": verdict(other.metric, found, len(other.scores)),
            }
        )
    return rows


def by_group(models: Mapping[str, Scored], groups: Sequence[str]) -> list[GroupRow]:
    """Return each model's score over the rows of each group, with its interval; the largest group first."""
    counts = sorted(((groups.count(group), group) for group in set(groups)), key=lambda one: (-one[0], one[1]))
    rows: list[GroupRow] = []
    for n, group in counts:
        for model, scored in models.items():
            values = [value for value, theirs in zip(scored.scores, groups, strict=True) if theirs == group]
            low, high = interval(values)
            score = round(sum(values) / n, 4)
            rows.append({"group": group, "model": model, "n": n, "score": score, "low": low, "high": high})
    return rows
