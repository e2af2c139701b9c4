"""Dot plots for the cells of tables: scores of models on one axis, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from finetune.report.axes import Tick, place_ticks, scale

TICKS = 3  # steps of an axis at most: its values must fit beside each other on a narrow screen
WIDTH = 100  # of the drawing, which stretches with its cell
LINE = 10  # the height of a line of the drawing


class Mark(NamedTuple):
    """A score and its interval, in the colour of a model: `base`, `tuned` or `plain`."""

    tone: str
    value: float
    low: float | None = None
    high: float | None = None


class Dot(NamedTuple):
    """A mark in its place."""

    tone: str
    x: float
    y: int
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class DotPlot:
    """The places of all that is drawn in a cell."""

    kind: ClassVar[str] = "dot_plot"
    lines: int
    grid: list[float]
    zero: float | None  # where nothing differs
    span: tuple[float, float] | None  # a line that joins dots without intervals
    dots: list[Dot]

    @property
    def height(self) -> int:
        return LINE * self.lines

    @property
    def css_height(self) -> str:
        return f"{1.2 if self.lines == 1 else 0.75 * self.lines:g}rem"


@dataclass(frozen=True)
class AxisLabels:
    """The head of a column of dot plots."""

    kind: ClassVar[str] = "axis_labels"
    ticks: list[Tick]


def dot_plot(axis: Sequence[float], marks: Sequence[Mark], zero: bool = False) -> DotPlot:
    """Place marks on an axis: those with intervals below each other, others on one line.

    With `zero`, the value 0 gets a line.
    """
    at = scale(axis, 0, WIDTH)
    apart = any(mark.low is not None for mark in marks)
    dots = []
    for number, mark in enumerate(marks):
        interval = None if mark.low is None or mark.high is None else (at(mark.low), at(mark.high))
        dots.append(Dot(mark.tone, at(mark.value), LINE * number * apart + LINE // 2, interval))
    places = [dot.x for dot in dots]
    return DotPlot(
        lines=len(marks) if apart else 1,
        grid=[at(tick) for tick in axis],
        zero=at(0) if zero else None,
        span=(min(places), max(places)) if places and not apart else None,
        dots=dots,
    )


def axis_labels(axis: Sequence[float]) -> AxisLabels:
    """Return the tick values above a column of dot plots, placed in percent of its width."""
    return AxisLabels(place_ticks(axis, 0, WIDTH))
