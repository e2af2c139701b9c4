"""The first metric of base and tuned in each group of `data.by`."""

from finetune.report.axes import ticks
from finetune.report.dot_plots import TICKS, Mark, axis_labels, dot_plot
from finetune.report.model_metrics import MAIN_MODELS
from finetune.report.number_formats import figure, parse_number
from finetune.report.page_tables import Cell, Table
from finetune.report.stage_outputs import Results, by_model


def group_table(results: Results) -> Table | None:
    """Return the first metric of base and tuned in each group; None without groups."""
    rows = [row for row in results.tables["groups"] if row["model"] in MAIN_MODELS]
    if not rows:
        return None
    axis = ticks(min(float(row["low"]) for row in rows), max(float(row["high"]) for row in rows), TICKS)
    body: list[list[Cell]] = []
    for group, models in by_model(rows, "group").items():
        marks = [Mark(name, *(float(row[key]) for key in ("score", "low", "high"))) for name, row in models.items()]
        scores = [figure(parse_number(models.get(model, {}).get("score"))) for model in MAIN_MODELS]
        body.append([group, dot_plot(axis, marks), *scores, next(iter(models.values()))["n"]])
    return Table(["", axis_labels(axis), "base", "tuned", "rows"], body)
