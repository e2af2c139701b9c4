"""Charts as data: the places of lines, dots and tick values. `templates/charts.html.jinja` draws them as SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from finetune.report.axes import Tick, place_ticks, scale, ticks
from finetune.report.training_curves import Curve, running_mean

LINE_POINTS = 400  # points of a line: more cannot be distinguished
MARKED_POINTS = 40  # the most validation points that are drawn as circles too

Point = tuple[float, float]


class Area(NamedTuple):
    """Where lines are drawn in a chart of 360 by 214. Tick values are outside."""

    left: int = 34
    right: int = 350
    top: int = 18
    bottom: int = 180


AREA = Area()


class Circle(NamedTuple):
    x: float
    y: float
    radius: float


class Series(NamedTuple):
    """A line, and circles on it, in the colour of a model."""

    tone: str
    style: str  # `line` or `faint`
    points: list[Point]
    circles: Sequence[Circle] = ()


class Marker(NamedTuple):
    """A vertical line with a text beside it."""

    x: float
    text_x: float
    anchor: str
    text: str


class Chart(NamedTuple):
    title: str  # for screen readers
    x_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[Series]
    clipped: bool = False  # whether lines may leave the area, and are cut at its edge
    diagonal: tuple[Point, Point] | None = None
    marker: Marker | None = None
    area: Area = AREA


def training_chart(title: str, train: Curve, valid: Curve, chosen: int | None, valid_batches: Curve = ()) -> Chart:
    """Draw a metric over training steps: of each batch faintly, its running mean, and of the validation split.

    Where the whole split was measured, `valid` is of it, and its batches are drawn faintly too.

    The first tenth of the steps does not set the scale: it differs most, and would flatten all that follows.
    """
    train, valid, valid_batches = finite(train), finite(valid), finite(valid_batches)
    means = running_mean(train)
    half = (len(train) - len(means)) // 2  # a mean is placed at the middle of its window
    means = [(step, mean) for (step, _), (_, mean) in zip(train[half:], means, strict=False)]
    every = [*train, *valid, *valid_batches]
    last = max(step for step, _ in every)
    later = [value for step, value in every if step > last / 10]
    low, high = min(later), max(later)
    across, up = ticks(0, last), ticks(low if low < 0 or low > high / 3 else 0, high)
    x, y = scale(across, AREA.left, AREA.right), scale(up, AREA.bottom, AREA.top)

    def line(curve: Curve) -> list[Point]:
        return [(x(step), y(value)) for step, value in curve[:: len(curve) // LINE_POINTS + 1]]

    circles = [Circle(x(step), y(value), 3.5) for step, value in valid] if len(valid) <= MARKED_POINTS else []
    return Chart(
        title=f"{title} over training steps",
        x_title="step",
        x_ticks=place_ticks(across, AREA.left, AREA.right),
        y_ticks=place_ticks(up, AREA.bottom, AREA.top),
        series=[
            Series("base", "faint", line(train)),
            Series("base", "line", line(means)),
            Series("tuned", "faint", line(valid_batches)),
            Series("tuned", "line", line(valid), circles),
        ],
        clipped=True,
        marker=chosen_step(chosen, x(chosen)) if chosen else None,
    )


def chosen_step(step: int, x: float) -> Marker:
    """Return the marker of the chosen checkpoint; its text stays inside the chart."""
    offset, anchor = (-5, "end") if x > AREA.right * 3 / 4 else (5, "start")
    return Marker(x, x + offset, anchor, f"chosen: step {step}")


def calibration_chart(models: Mapping[str, Sequence[tuple[float, float, float]]]) -> Chart:
    """Draw accuracy over confidence. `models` has bins of (confidence, accuracy, rows) by the model's colour."""
    axis = [0.0, 0.25, 0.5, 0.75, 1.0]
    x, y = scale(axis, AREA.left, AREA.right), scale(axis, AREA.bottom, AREA.top)
    series = []
    for tone, bins in models.items():
        most = max((rows for *_, rows in bins), default=1.0)
        points = [(x(confidence), y(accuracy)) for confidence, accuracy, _ in bins]
        radii = [round(2 + 4 * math.sqrt(rows / most), 1) for *_, rows in bins]
        circles = [Circle(*point, radius) for point, radius in zip(points, radii, strict=True)]
        series.append(Series(tone, "line", points, circles))
    return Chart(
        title="Share of right answers by confidence",
        x_title="confidence",
        x_ticks=place_ticks(axis, AREA.left, AREA.right),
        y_ticks=place_ticks(axis, AREA.bottom, AREA.top),
        series=series,
        diagonal=((x(0), y(0)), (x(1), y(1))),
    )


def finite(curve: Curve) -> list[tuple[int, float]]:
    """Return the points whose value is a finite number."""
    return [(step, value) for step, value in curve if math.isfinite(value)]
