"""Print scores: a column for each model, a row for each metric."""

from collections.abc import Mapping
from typing import Any

from finetune.core.evaluated_models import entry, models_in
from finetune.core.flatten import flatten
from finetune.core.records import Evaluation, Metrics
from finetune.terminal.tables import print_table

HIDDEN = ("_low", "_high", "signature", "revision")


def print_scores(report: Evaluation) -> None:
    """Print each model's metrics, the verdicts, and the gates that failed."""
    columns = {model: figures_of(report, model) for model in models_in(report)}
    print_figures(columns, report["metric"])
    print(f"tuned against base: {report['lift']['verdict']}")
    for name, found in report["also"].items():
        print(f"also.{name}: tuned against base: {found['verdict']}")
    if "judge" in report:
        print(f"judge: tuned: {report['judge']['verdict']}")
    for failed in report["gates_failed"]:
        print(f"gate not met: {failed}")


def figures_of(report: Evaluation, model: str) -> Metrics:
    """Return a model's metrics under flat names, with its graders' scores as `graders.<name>`."""
    metrics = {key: value for key, value in entry(report, model).items() if key != "lift"}
    figures = flatten(metrics)
    for name, grades in report.get("graders", {}).items():
        found = entry(grades, model)
        key = f"graders.{name}"
        figures |= {key: found["score"], f"{key}_low": found["low"], f"{key}_high": found["high"]}
    return figures


def print_figures(columns: Mapping[str, Metrics], metric: str) -> None:
    """Print a column for each model, and a row for each of the last one's metrics, `metric` first."""
    keys = [key for key in list(columns.values())[-1] if not key.endswith(HIDDEN)]
    rows = [
        [key.replace("_", " "), *(cell(one, key) for one in columns.values())]
        for key in sorted(keys, key=lambda key: key != metric)
    ]
    print_table(["", *columns], rows)


def cell(metrics: Mapping[str, Any], key: str) -> str | None:
    """Return a metric as text, with its interval if it has one."""
    value = metrics.get(key)
    if f"{key}_low" in metrics:
        return f"{value:.3f} ({metrics[f'{key}_low']:.3f} to {metrics[f'{key}_high']:.3f})"
    return f"{value:.3f}" if isinstance(value, float) else str(value) if value is not None else None
