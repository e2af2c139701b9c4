"""The regression sets of `evaluate.also`: which other abilities the tuned model kept."""

from collections.abc import Mapping
from typing import NamedTuple

from finetune.core.records.evaluation import RegressionResult
from finetune.report.axes import ticks
from finetune.report.dot_plots import TICKS, Mark, axis_labels, dot_plot
from finetune.report.model_metrics import metric_label
from finetune.report.number_formats import figure, signed
from finetune.report.page_tables import Badge, Cell, Table


class RegressionsView(NamedTuple):
    table: Table
    verdicts: dict[str, str]  # by set


def regressions_view(sets: Mapping[str, RegressionResult] | None) -> RegressionsView | None:
    """Return the scores and the verdict on each set; None without sets."""
    if not sets:
        return None
    return RegressionsView(regression_table(sets), {name: found["verdict"] for name, found in sets.items()})


def regression_table(sets: Mapping[str, RegressionResult]) -> Table:
    """Return both models' scores and their difference for each set."""
    lows, highs = [float(found["low"]) for found in sets.values()], [float(found["high"]) for found in sets.values()]
    axis = ticks(min(0.0, *lows), max(0.0, *highs), TICKS)
    rows: list[list[Cell]] = []
    for name, found in sets.items():
        mark = Mark("tuned", float(found["lift"]), float(found["low"]), float(found["high"]))
        rows.append(
            [
                name,
                metric_label(found["metric"]),
                dot_plot(axis, [mark], zero=True),
                figure(found["base"]),
                figure(found["tuned"]),
                signed(float(found["lift"])),
                found["margin"],
                badge(found),
                found["n"],
            ]
        )
    return Table(["", "metric", axis_labels(axis), "base", "tuned", "difference", "margin", "", "rows"], rows)


def badge(found: RegressionResult) -> Badge:
    """Return the verdict on a set: lost only where a loss is shown, that is, the whole interval is below 0."""
    if found["kept"]:
        return Badge("good", "✓ kept")
    return Badge("bad", "✗ lost") if found["high"] < 0 else Badge("soft", "not shown to be kept")
