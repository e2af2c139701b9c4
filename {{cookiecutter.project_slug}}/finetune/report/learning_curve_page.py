"""reports/learning_curve.html: scores by training rows, the fitted power law, and what twice the rows would bring."""

import math
from collections.abc import Sequence

from finetune.core.records.variants import CurveFit, CurveRow, LearningCurve
from finetune.report.axes import Tick, place_ticks, scale, ticks
from finetune.report.charts import AREA, Chart, Circle, Marker, Series
from finetune.report.model_metrics import metric_label
from finetune.report.number_formats import figure, money
from finetune.report.page_tables import Cell, Table
from finetune.report.rendering import render

DOT = 3.5
NEAREST = 28  # between two numbers of rows on the axis


def make_learning_curve_page(curve: LearningCurve) -> str:
    """Return the page as text, the same for the same figures."""
    title, _, rest = curve["verdict"].partition(". ")
    return render(
        "learning_curve.html.jinja",
        metric=metric_label(curve["metric"]),
        test_rows=curve["test_rows"],
        title=title.removesuffix("."),
        rest=rest,
        notes=curve["notes"],
        chart=curve_chart(curve["points"], curve["fit"], metric_label(curve["metric"])),
        legend={"base": "trained", **({"tuned": "fitted law"} if curve["fit"] else {})},
        points=point_table(curve["points"], metric_label(curve["metric"])),
        law=law_of(curve["fit"]),
    )


def curve_chart(points: Sequence[CurveRow], fit: CurveFit | None, label: str) -> Chart:
    """Draw scores over rows, whose axis is logarithmic: each training with its interval, and the law with its band."""
    line = fit["line"] if fit else []
    rows = sorted({point["rows"] for point in points} | ({fit["twice"]["rows"]} if fit else set()))
    up = ticks(min(one["low"] for one in [*points, *line]), max(one["high"] for one in [*points, *line]))
    ends = [math.log(rows[0]) - 0.1, math.log(rows[-1]) + 0.1]
    across, y = scale(ends, AREA.left, AREA.right), scale(up, AREA.bottom, AREA.top)

    def x(count: int) -> float:
        return across(math.log(count))

    series = []
    if line:
        above, below = ([(x(one["rows"]), y(one[end])) for one in line] for end in ("high", "low"))
        series.append(Series("tuned", "band", [*above, *reversed(below)]))
        series.append(Series("tuned", "line", [(x(one["rows"]), y(one["score"])) for one in line]))
    for one in points:
        interval = [(x(one["rows"]), y(one[end])) for end in ("low", "high")]
        series.append(Series("base", "interval", interval, [Circle(x(one["rows"]), y(one["score"]), DOT)]))
    at = x(fit["twice"]["rows"]) if fit else 0.0
    return Chart(
        title=f"{label} by training rows",
        x_title="training rows",
        x_ticks=apart([Tick(x(count), f"{count:,}") for count in rows]),
        y_ticks=place_ticks(up, AREA.bottom, AREA.top),
        series=series,
        clipped=True,
        marker=Marker(at, at - 5, "end", "twice the rows") if fit else None,
    )


def apart(found: Sequence[Tick]) -> list[Tick]:
    """Return the ticks whose labels do not overlap, the last one first in rank."""
    kept: list[Tick] = []
    for tick in reversed(found):
        if not kept or kept[-1].at - tick.at >= NEAREST:
            kept.append(tick)
    return kept[::-1]


def point_table(points: Sequence[CurveRow], label: str) -> Table:
    """Return the trainings with their scores and costs."""
    rows: list[list[Cell]] = [
        [
            f"{one['rows']:,}",
            one["seed"],
            figure(one["score"]),
            f"{figure(one['low'])} – {figure(one['high'])}",
            figure(one["n_epochs"]),
            money(one["usd"]),
        ]
        for one in points
    ]
    return Table(["training rows", "seed", label, "95 % interval", "epochs", "cost"], rows)


def law_of(fit: CurveFit | None) -> str:
    """Return the law in words; "" without one."""
    if fit is None:
        return ""
    error = 1 - fit["best_score"]
    return (
        f"The law: the error, 1 − score, falls as {figure(error)} + gain × rows to the power of −{fit['exponent']:g}."
        " The band is its 95 % interval, over the test rows and between trainings. The interval of each training is"
        " over the test rows only."
    )
