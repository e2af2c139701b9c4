"""Print scores: a column for each model, a row for each metric."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.evaluated_models import floor_title, get_model, is_asked, models_in
from finetune.core.records.evaluation import Evaluation, Metrics
from finetune.terminal.tables import print_table

Column = dict[str, str]  # a figure's name → its text


def print_scores(report: Evaluation) -> None:
    """Print each model's metrics, the verdicts, and the gates that failed."""
    print_columns([(model, column_of(report, model)) for model in models_in(report)], report["metric"])
    if "rival" in report and report["rival"]["name"] != "base":
        print(f"tuned against {floor_title(report['rival']['name'])}: {report['rival']['verdict']}")
    print(f"tuned against base: {report['lift']['verdict']}")
    if "rescued" in report:
        print(f"tuned against rescued: {report['rescued']['verdict']}")
    if "lift_on_answered" in report:
        on_answered = report["lift_on_answered"]
        print(f"tuned against base, on the {on_answered['n']:,} rows that both answered: {on_answered['verdict']}")
    if "trainings" in report:
        print(f"trainings: {report['trainings']['verdict']}")
    for name, found in report["also"].items():
        print(f"also.{name}: tuned against base: {found['verdict']}")
    if "preferences" in report:
        print(f"preferences: tuned against base: {report['preferences']['verdict']}")
    if "judge" in report:
        print(f"judge: tuned: {report['judge']['verdict']}")
    for failed in report.get("gates_failed", []):
        print(f"gate not met: {failed}")


def column_of(report: Evaluation, model: str) -> Column:
    """Return a model's metrics, the F1 of fields as `fields.<name>`, and graders' scores as `graders.<name>`."""
    metrics: Metrics = get_model(report, model)
    column = figures_of(metrics)
    column |= {f"fields.{name}": text_of(value) for name, value in metrics.get("fields", {}).items()}
    for name, grades in report.get("graders", {}).items() if is_asked(model) else ():
        found = get_model(grades, model)
        column[f"graders.{name}"] = text_of(found["score"], found["low"], found["high"])
    return column


def figures_of(metrics: Metrics) -> Column:
    """Return metrics as texts, each with its interval if it has one."""
    return {
        name: f"{value:.3g}"  # a small price is not 0
        if name.startswith("usd_") and isinstance(value, float)
        else text_of(value, metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))
        for name, value in metrics.items()
        if not isinstance(value, Mapping)
        and not name.endswith(("_low", "_high"))
        and name not in ("signature", "revision")
    }


def text_of(value: Any, low: float | None = None, high: float | None = None) -> str:
    """Return a figure as text, with its interval."""
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if low is None or high is None else f"{text} ({low:.3f} to {high:.3f})"


def print_columns(columns: Sequence[tuple[str, Column]], metric: str) -> None:
    """Print columns under their titles, and a row for each figure of the last one, `metric` first."""
    names = sorted(columns[-1][1], key=lambda name: name != metric)
    # A name with a dot is one that a user gave.
    labels = {name: name if "." in name else name.replace("_", " ") for name in names}
    rows = [[labels[name], *(column.get(name) for _, column in columns)] for name in names]
    print_table(["", *(title for title, _ in columns)], rows)
