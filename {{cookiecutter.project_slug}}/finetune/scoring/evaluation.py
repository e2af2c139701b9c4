"""Combine the scores of all models: metrics with intervals, and the tuned model compared with each of the others."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from operator import gt, lt
from typing import Any

from finetune.core.evaluated_models import RIVALS, is_floor, set_model
from finetune.core.records.evaluation import Metrics, PairedDifference
from finetune.core.records.score_tables import GroupRow, PairRow
from finetune.scoring.mean_interval import interval
from finetune.scoring.paired_comparison import holm, paired_difference, verdict
from finetune.scoring.tasks import Scored

EXPLORATORY = "; exploratory: to choose a checkpoint by these rows, confirm it with fresh ones"
RowGroups = Sequence[int] | None  # the group of each test row; None: no two rows share one


def compare_models(models: Mapping[str, Scored], groups: RowGroups = None) -> dict[str, Any]:
    """Return the metrics of each model with the interval of its metric, and `lift` of the tuned model over each.

    Our names are flat, so that `dvc metrics diff` is easy to read: `tuned.accuracy`, `tuned.accuracy_low`,
    `lift.p_value`. Names that users choose are under `compared`. With several models, `p_holm` is the p-value corrected
    for their number. `rival` is the difference to the strongest of the others, except other fine-tunes.
    """
    tuned = models["tuned"]
    report: dict[str, Any] = {"n": len(tuned.scores), "metric": tuned.metric}
    if groups is not None and len(set(groups)) < len(groups):
        report["groups"] = len(set(groups))
    others = {name: scored for name, scored in models.items() if name != "tuned"}
    lifts = dict(zip(others, lifts_over([*others.values()], tuned, groups), strict=True))
    for name, scored in models.items():
        low, high = interval_of(scored, groups)
        metrics = {**scored.metrics, f"{scored.metric}_low": low, f"{scored.metric}_high": high}
        set_model(report, name, metrics)
        if name == "tuned":
            continue
        if name.startswith("checkpoints."):
            lifts[name]["verdict"] += EXPLORATORY
        if name == strongest(models):
            report["rival"] = {"name": name, **lifts[name]}
        if name == "base":
            report["lift"] = lifts[name]
        elif name == "few_shot":
            report["lift_over_few_shot"] = lifts[name]
        else:
            metrics["lift"] = lifts[name]
    return report


def strongest(models: Mapping[str, Scored]) -> str:
    """Return the best of what else there is: the base, with examples or not, or a floor."""
    return max((name for name in models if name in RIVALS), key=lambda name: models[name].metrics[models[name].metric])


def interval_of(scored: Scored, groups: RowGroups) -> tuple[float, float]:
    """Return the 95 % interval of the metric that models are compared by, which is from 0 to 1."""
    low, high = interval(scored.compared, groups)
    return max(0.0, low), min(1.0, high)


def difference(before: Scored, after: Scored, groups: RowGroups) -> PairedDifference:
    """Return how much better a model is than another by the metric that they are compared by, which is from 0 to 1."""
    found = paired_difference(before.compared, after.compared, groups)
    found["wins"] = sum(map(lt, before.scores, after.scores))
    found["losses"] = sum(map(gt, before.scores, after.scores))
    found["low"], found["high"] = max(-1.0, found["low"]), min(1.0, found["high"])
    return found


def lifts_over(others: Sequence[Scored], tuned: Scored, groups: RowGroups) -> list[Metrics]:
    """Return how much better the tuned model is than each of the others, under the name of the metric."""
    found = [difference(other, tuned, groups) for other in others]
    corrected = holm([one["p_value"] for one in found])
    lifts: list[Metrics] = []
    for one, p_holm in zip(found, corrected, strict=True):
        size = {tuned.metric: one["lift"], f"{tuned.metric}_low": one["low"], f"{tuned.metric}_high": one["high"]}
        rest: Metrics = {"p_value": one["p_value"], "test": one["test"]}
        rest |= {"wins": one["wins"], "losses": one["losses"]}
        if len(others) > 1:
            rest["p_holm"] = p_holm
        if one["fresh_rows"] is not None:
            rest["fresh_rows"] = one["fresh_rows"]
        words = verdict(tuned.metric, one, len(tuned.scores), p_holm, len(others))
        lifts.append({**size, **rest, "verdict": words})
    return lifts


def pairs(models: Mapping[str, Scored], groups: RowGroups = None) -> list[PairRow]:
    """Return a row for each pair of models: how much better the later one is. Floors are compared with tuned only."""
    every = [(one, other) for one, other in combinations(models.items(), 2) if is_of_interest(one[0], other[0])]
    found = [difference(one, other, groups) for (_, one), (_, other) in every]
    corrected = holm([one["p_value"] for one in found])
    return [
        {
            "model": model,
            "against": against,
            "n": len(other.scores),
            "difference": one["lift"],
            "low": one["low"],
            "high": one["high"],
            "p_value": one["p_value"],
            "p_holm": p_holm,
            "test": one["test"],
            "verdict": verdict(other.metric, one, len(other.scores), p_holm, len(every)),
        }
        for ((against, _), (model, other)), one, p_holm in zip(every, found, corrected, strict=True)
    ]


def is_of_interest(one: str, other: str) -> bool:
    """Return whether a table compares two models."""
    return other == "tuned" or not (is_floor(one) or is_floor(other))


def by_cell(models: Mapping[str, Scored], cells: Sequence[str], groups: RowGroups = None) -> list[GroupRow]:
    """Return each model's mean score over the rows with each cell in the column data.by, the most frequent cell first.

    Intervals take the rows of a cell that is one group as independent: nothing is said of other groups.
    """
    places: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        places.setdefault(cell, []).append(number)
    rows: list[GroupRow] = []
    for cell, at in sorted(places.items(), key=lambda one: (-len(one[1]), one[0])):
        within = [groups[number] for number in at] if groups is not None else []
        for model, scored in models.items():
            values = [scored.scores[number] for number in at]
            low, high = interval(values, within if len(set(within)) > 1 else None)
            score = round(sum(values) / len(at), 4)
            rows.append({"group": cell, "model": model, "n": len(at), "score": score, "low": low, "high": high})
    return rows
