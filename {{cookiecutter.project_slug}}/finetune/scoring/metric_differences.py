"""Every metric of every model with its interval, and the tuned model's difference in it."""

from collections.abc import Mapping

from finetune.core.records import MetricRow
from finetune.scoring.evaluation import RowGroups, difference, interval_of
from finetune.scoring.prediction_scores import with_metric
from finetune.scoring.tasks import Scored


def metric_rows(models: Mapping[str, Scored], groups: RowGroups = None) -> list[MetricRow]:
    """Return a row for each metric and model. P-values are those of single comparisons."""
    rows: list[MetricRow] = []
    for metric in models["tuned"].values:
        scored = {name: with_metric(one, metric) for name, one in models.items() if metric in one.values}
        for name, one in scored.items():
            low, high = interval_of(one, groups)
            by = difference(one, scored["tuned"], groups) if name != "tuned" else None
            rows.append(
                {
                    "metric": metric,
                    "model": name,
                    "value": one.metrics[metric],
                    "low": low,
                    "high": high,
                    "difference": by["lift"] if by else "",
                    "difference_low": by["low"] if by else "",
                    "difference_high": by["high"] if by else "",
                    "p_value": by["p_value"] if by else "",
                }
            )
    return rows
