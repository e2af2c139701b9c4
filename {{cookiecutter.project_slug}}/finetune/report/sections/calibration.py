"""The calibration section: how often answers are right at each confidence."""

from typing import NamedTuple

from finetune.core.records.evaluation import Metrics
from finetune.report.charts import Chart, calibration_chart
from finetune.report.model_metrics import MAIN_MODELS, models
from finetune.report.number_formats import figure, parse_number
from finetune.report.stage_outputs import Results


class CalibrationView(NamedTuple):
    chart: Chart
    legend: dict[str, str]
    errors: dict[str, str]  # by model: its calibration error with the interval, and what that shows


def calibration_view(results: Results) -> CalibrationView | None:
    """Return the chart of base and tuned; None without log-probabilities."""
    bins = {
        model: [
            (float(row["confidence"]), float(row["accuracy"]), float(row["rows"]))
            for row in results.tables["calibration"]
            if row["model"] == model and parse_number(row["accuracy"]) is not None
        ]
        for model in MAIN_MODELS
    }
    if not any(bins.values()):
        return None
    found = {model: MAIN_MODELS[model] for model in bins if bins[model]}
    every = models(results.evaluation)
    errors = {label: words for model, label in found.items() if (words := error_words(every[model]))}
    return CalibrationView(calibration_chart(bins), found, errors)


def error_words(model: Metrics) -> str:
    """Return the calibration error in words; "" in evaluations of earlier versions, which have no interval of it."""
    if "calibration_error_low" not in model:
        return ""
    error, low, high = (figure(model[f"calibration_error{end}"]) for end in ("", "_low", "_high"))
    shown = "" if model["calibration_error_low"] > 0 else ": a perfectly calibrated model may have as much by chance"
    return f"{error} (95 % interval {low} – {high}){shown}"
