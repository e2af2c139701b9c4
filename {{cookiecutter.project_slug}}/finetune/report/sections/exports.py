"""The exported formats beside the measured model: score, agreement, size and speed."""

from collections.abc import Mapping
from typing import NamedTuple

from finetune.core.records.evaluation import Evaluation
from finetune.core.records.exports import ExportReport, ExportSpeed
from finetune.report.model_metrics import metric_title
from finetune.report.number_formats import figure, percent, signed
from finetune.report.page_tables import Table


class ExportsView(NamedTuple):
    table: Table
    verdicts: dict[str, str]  # by format
    gates_failed: list[str]


def exports_view(
    evaluation: Evaluation, report: ExportReport | None, speeds: Mapping[str, ExportSpeed]
) -> ExportsView | None:
    """Return the formats as columns, the measured model first; None if nothing was exported."""
    if not report or not report["export"]:
        return None
    return ExportsView(
        exports_table(evaluation, report, speeds),
        {name: one["verdict"] for name, one in report["export"].items()},
        report.get("gates_failed", []),
    )


def exports_table(evaluation: Evaluation, report: ExportReport, speeds: Mapping[str, ExportSpeed]) -> Table:
    """Return a row for each figure. Speeds are left out where there are none: they differ from run to run."""
    formats = report["export"]
    first = next(iter(formats.values()))
    rows = [
        [
            metric_title(evaluation, first["metric"]),
            figure(report["tuned"]),
            *(figure(one["score"]) for one in formats.values()),
        ],
        ["95 % interval", "", *(f"{figure(one['low'])} – {figure(one['high'])}" for one in formats.values())],
        ["difference to tuned", "", *(signed(one["difference"]) for one in formats.values())],
        [
            "its 95 % interval",
            "",
            *(f"{signed(one['difference_low'])} – {signed(one['difference_high'])}" for one in formats.values()),
        ],
        ["equal answers", "", *(percent(one["agreement"]) for one in formats.values())],
    ]
    if any("logprob_difference" in one for one in formats.values()):
        apart = [figure(one.get("logprob_difference")) for one in formats.values()]
        rows.append(["difference of log-probabilities", "", *apart])
    rows.append(
        [f"within {first['margin']:g}", "", *("yes" if one["kept"] else "not shown" for one in formats.values())]
    )
    rows.append(["size", "", *(megabytes(one["bytes"]) for one in formats.values())])
    if any("tokens_per_second" in one for one in speeds.values()):
        rates = [speeds.get(name, {}).get("tokens_per_second") for name in formats]
        rows.append(["tokens per second", "", *(figure(rate) for rate in rates)])
    return Table([f"{report['n']:,} test rows", "tuned", *formats], rows)


def megabytes(size: int) -> str:
    """Return bytes in millions."""
    return f"{size / 1e6:,.1f} MB"
