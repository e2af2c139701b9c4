"""Every metric of every model with its interval, and the tuned model's difference in it."""

from collections.abc import Mapping, Sequence

from finetune.core.records.score_tables import MetricRow
from finetune.scoring.design_effect import Values
from finetune.scoring.evaluation import RowGroups
from finetune.scoring.mean_interval import interval, ranking_interval
from finetune.scoring.paired_comparison import paired_difference
from finetune.scoring.tasks import Scored

RANKING = ("auroc", "auprc")
FEWEST = 10  # rows of a class: with fewer, a ranking's variance over them cannot be estimated
UNBOUNDED = ("log_loss",)  # others are from 0 to 1


def metric_rows(
    models: Mapping[str, Scored], groups: RowGroups = None, expected: Sequence[str] = ()
) -> list[MetricRow]:
    """Return a row for each metric and model. P-values are those of single comparisons.

    `expected` has the class of each row. If one has fewer than FEWEST rows or groups, AUROC and AUPRC have no row. If
    all rows are one group, nor has a metric without bounds: its interval would have no ends.
    """
    values = {name: {**one.values, **one.probability_values} for name, one in models.items()}
    left_out = UNBOUNDED if groups is not None and len(set(groups)) < 2 else ()
    are_few = bool(expected) and fewest_of_a_class(expected, groups) < FEWEST
    return [
        metric_row(metric, name, models[name].metrics[metric], own[metric], values["tuned"][metric], groups)
        for metric in values["tuned"]
        for name, own in values.items()
        if metric in own and metric not in left_out and not (are_few and metric in RANKING)
    ]


def fewest_of_a_class(expected: Sequence[str], groups: RowGroups = None) -> int:
    """Return the number of rows of the rarest class; that of the groups that have such rows, if there are groups."""
    units = range(len(expected)) if groups is None else groups
    found: dict[str, set[int]] = {}
    for name, unit in zip(expected, units, strict=True):
        found.setdefault(name, set()).add(unit)
    return min(map(len, found.values()))


def metric_row(
    metric: str, model: str, value: float, own: Values, tuned: Values, groups: RowGroups = None
) -> MetricRow:
    """Return the row of a metric and model; `own` and `tuned` are what each row of the test contributes to it."""
    most = float("inf") if metric in UNBOUNDED else 1.0
    low, high = (ranking_interval if metric in RANKING else interval)(own, groups)
    by = paired_difference(own, tuned, groups) if model != "tuned" else None
    return {
        "metric": metric,
        "model": model,
        "value": value,
        "low": max(0.0, low),
        "high": min(most, high),
        "difference": by["lift"] if by else "",
        "difference_low": max(-most, by["low"]) if by else "",
        "difference_high": min(most, by["high"]) if by else "",
        "p_value": by["p_value"] if by else "",
    }
