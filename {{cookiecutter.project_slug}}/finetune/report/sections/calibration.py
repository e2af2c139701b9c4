"""The calibration section: how often answers are right at each confidence."""

from typing import NamedTuple

from finetune.report.charts import Chart, calibration_chart
from finetune.report.model_metrics import MAIN_MODELS
from finetune.report.number_formats import parse_number
from finetune.report.stage_outputs import Results


class CalibrationView(NamedTuple):
    chart: Chart
    legend: dict[str, str]


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
    return CalibrationView(calibration_chart(bins), {model: MAIN_MODELS[model] for model in bins if bins[model]})
