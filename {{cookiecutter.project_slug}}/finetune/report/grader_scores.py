"""The scores of graders: one row for each grader, with every model and the difference of tuned minus base."""

from finetune.core.evaluated_models import get_model, is_asked, models_in
from finetune.core.records.evaluation import Evaluation
from finetune.report.model_metrics import model_label
from finetune.report.number_formats import figure, signed
from finetune.report.page_tables import Table


def grader_table(evaluation: Evaluation) -> Table | None:
    """Return the table of all graders; None if there are none."""
    if not evaluation.get("graders"):
        return None
    names = [name for name in models_in(evaluation) if is_asked(name)]
    head = ["grader", *map(model_label, names), "tuned − base", "95 % interval", "p"]
    rows = []
    for grader, grades in evaluation["graders"].items():
        lift = grades["lift"]
        scores = [figure(get_model(grades, name)["score"]) for name in names]
        interval = f"{signed(lift['low'])} – {signed(lift['high'])}"
        rows.append([grader, *scores, signed(lift["score"]), interval, f"{lift['p_value']:.3g}"])
    return Table(head, rows)
