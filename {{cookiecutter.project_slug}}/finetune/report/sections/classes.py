"""F1 of base and tuned in each class."""

from typing import NamedTuple

from finetune.report.dot_plots import Mark, axis_labels, dot_plot
from finetune.report.model_metrics import MAIN_MODELS
from finetune.report.number_formats import figure, parse_number
from finetune.report.page_tables import Cell, Table
from finetune.report.sections.confusion import class_pairs, most_confused
from finetune.report.stage_outputs import Results, by_model


class ClassesView(NamedTuple):
    shown: int
    total: int
    table: Table


def classes_view(results: Results) -> ClassesView | None:
    """Return the F1 of each class for base and tuned, and precision and recall of tuned; None without classes."""
    found = by_model([row for row in results.tables["classes"] if row["model"] in MAIN_MODELS], "class")
    if not found:
        return None
    shown = most_confused(class_pairs(results, "tuned"), list(found))
    axis = [0.0, 0.25, 0.5, 0.75, 1.0]
    rows: list[list[Cell]] = []
    for label in shown:
        models = found[label]
        tuned = models.get("tuned", {})
        marks = [Mark(model, float(models[model]["f1"])) for model in MAIN_MODELS if model in models]
        f1 = [figure(parse_number(models.get(model, {}).get("f1"))) for model in MAIN_MODELS]
        others = [figure(parse_number(tuned.get(name))) for name in ("precision", "recall")]
        rows.append([label, dot_plot(axis, marks), *f1, *others, tuned.get("n", "")])
    head: list[Cell] = ["", axis_labels(axis), "F1, base", "F1, tuned", "precision", "recall", "rows"]
    return ClassesView(len(shown), len(found), Table(head, rows))
