"""The training section: curves of loss and accuracy, the chosen checkpoint, and the verdict on the curves."""

from typing import NamedTuple

from finetune.core.records.training import ModelRecord
from finetune.report.charts import Chart, finite, training_chart
from finetune.report.stage_outputs import Results
from finetune.report.training_curves import FULL_VALID_LOSS, curve_of

CHARTS = {
    "Loss": "loss",
    "Token accuracy": "accuracy",
    "Share of pairs whose margin grew": "rewards_accuracy",
    "Margin of rewards": "rewards_margin",
}


class TrainingView(NamedTuple):
    verdict: str
    charts: list[tuple[str, Chart]]  # with their titles
    legend: dict[str, str]


def training_view(results: Results) -> TrainingView | None:
    """Return the charts; None if there is neither a curve nor a verdict."""
    record, rows = results.record, results.tables["training"]
    verdict, chosen = curve_sentences(record), record.get("chosen")
    whole_file = [row for row in rows if row.get(FULL_VALID_LOSS)]
    batches = [row for row in rows if not row.get(FULL_VALID_LOSS)] if whole_file else []
    charts = []
    for title, metric in CHARTS.items():
        train, valid = curve_of(rows, f"train_{metric}"), curve_of(whole_file or rows, f"valid_{metric}")
        of_batches = curve_of(batches, f"valid_{metric}")
        if finite(train):
            step = chosen["step"] if chosen else None
            charts.append((title, training_chart(title, train, valid, step, of_batches)))
    legend = {"base": "training, and its running mean"}
    if curve_of(rows, "valid_loss"):
        legend["tuned"] = "validation, and its batches" if whole_file else "validation"
    return TrainingView(verdict, charts, legend) if verdict or charts else None


def curve_sentences(record: ModelRecord) -> str:
    """Return the verdict on the curves and its reason; "" if the record has none."""
    words = record.get("verdict_words") or ""
    return f"{verdict.capitalize()}. {words}" if (verdict := record.get("verdict")) else words
