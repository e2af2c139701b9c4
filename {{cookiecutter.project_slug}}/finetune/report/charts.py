"""Figures as inline SVG. They stretch with the page, take their colours from its style, and their text can be read."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from finetune.report.html import Html
from finetune.report.training_curves import smooth

Curve = Sequence[tuple[int, float]]

LEFT, RIGHT, TOP, BOTTOM = 34, 350, 18, 180  # of what is drawn in a chart of 360 by 214
TONES = {"base": "base model", "tuned": "tuned model"}  # what each stands for; others are plain
THIN = 400  # points of a curve: more cannot be told apart


class Mark(NamedTuple):
    """A figure and how far it may be off, in the tone of its model: base, tuned or plain."""

    tone: str
    value: float
    low: float | None = None
    high: float | None = None


def tone(model: str) -> str:
    return model if model in TONES else "plain"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values, evenly apart: the first is not over `low`, the last not under `high`, with `most` steps between."""
    span = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / most))
    for step in (unit * factor for factor in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.floor(round(low / step, 6)), math.ceil(round(high / step, 6))
        if last - first <= most:
            break
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]


def scale(axis: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Where on a line from `start` to `end` a value of the axis stands."""
    return lambda value: round(start + (value - axis[0]) / (axis[-1] - axis[0]) * (end - start), 2)


def strip(axis: Sequence[float], marks: Sequence[Mark], zero: bool = False) -> Html:
    """Figures on a line for a cell of a table; those with intervals one below the other, others joined on one line.

    `zero` asks for a mark where nothing differs.
    """
    at = scale(axis, 0, 100)
    apart = any(mark.low is not None for mark in marks)
    lines = len(marks) if apart else 1
    drawn = [f'<path class="grid" d="M{at(tick)} 0V{10 * lines}"/>' for tick in axis]
    if zero:
        drawn.append(f'<path class="zero" d="M{at(0)} 0V{10 * lines}"/>')
    if not apart and marks:
        ends = [at(mark.value) for mark in marks]
        drawn.append(f'<path class="between" d="M{min(ends)} 5H{max(ends)}"/>')
    for number, mark in enumerate(marks):
        y = 10 * number + 5 if apart else 5
        if mark.low is not None and mark.high is not None:
            drawn.append(f'<path class="reach {mark.tone}" d="M{at(mark.low)} {y}H{at(mark.high)}"/>')
        drawn.append(f'<path class="dot {mark.tone}" d="M{at(mark.value)} {y}h.01"/>')
    height = f"height: {1.2 if lines == 1 else 0.75 * lines:g}rem"
    box = f'class="strip" viewBox="0 0 100 {10 * lines}" preserveAspectRatio="none" style="{height}"'
    return Html(f'<svg {box} aria-hidden="true">{"".join(drawn)}</svg>')


def axis_of(axis: Sequence[float]) -> Html:
    """The head of a column of strips."""
    at = scale(axis, 0, 100)
    told = "".join(f'<span style="left: {at(tick):g}%">{tick:g}</span>' for tick in axis)
    return Html(f'<div class="ticks">{told.replace(">-", ">−")}</div>')


def legend(names: Mapping[str, str]) -> str:
    """What the tones stand for."""
    return f'<p class="legend">{"".join(f"<span class={tone}>{name}</span>" for tone, name in names.items())}</p>'


def axes(name: str, across: Sequence[float], up: Sequence[float], x_name: str, drawn: str) -> Html:
    """A chart: what is `drawn`, over a grid with its figures; `name` says it to those who do not see it."""
    x, y = scale(across, LEFT, RIGHT), scale(up, BOTTOM, TOP)
    grid = "".join(f'<path class="grid" d="M{LEFT} {y(tick)}H{RIGHT}"/>' for tick in up)
    beside = "".join(f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>' for tick in up)
    below = "".join(f'<text x="{x(tick)}" y="{BOTTOM + 16}" text-anchor="middle">{tick:g}</text>' for tick in across)
    called = f'<text x="{RIGHT}" y="{BOTTOM + 32}" text-anchor="end">{x_name}</text>'
    box = f'class="chart" viewBox="0 0 360 214" role="img" aria-label="{name}"'
    return Html(f"<svg {box}>{grid}{beside}{below}{called}{drawn}</svg>")


def over_steps(name: str, train: Curve, valid: Curve, chosen: int | None) -> Html:
    """A metric of a training: of each batch faintly, with its running mean, and of the validation split.

    The first steps, which differ most, may reach out of the figure: what comes later would else be flat.
    """
    train, valid = finite(train), finite(valid)
    means = smooth(train)
    half = (len(train) - len(means)) // 2  # a mean stands where the middle of what it is of does
    means = [(step, mean) for (step, _), (_, mean) in zip(train[half:], means, strict=False)]
    last = max(step for step, _ in [*train, *valid])
    later = [value for step, value in [*train, *valid] if step > last / 10]
    low, high = min(later), max(later)
    across, up = ticks(0, last), ticks(low if low < 0 or low > high / 3 else 0, high)
    x, y = scale(across, LEFT, RIGHT), scale(up, BOTTOM, TOP)

    def path(kind: str, curve: Curve) -> str:
        few = curve[:: len(curve) // THIN + 1]
        return f'<polyline class="{kind}" points="{" ".join(f"{x(step)},{y(value)}" for step, value in few)}"/>'

    inside = path("faint base", train) + path("line base", means) + path("line tuned", valid)
    if len(valid) <= 40:
        inside += "".join(f'<circle class="point tuned" cx="{x(a)}" cy="{y(b)}" r="3.5"/>' for a, b in valid)
    edge = f'x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"'
    drawn = f'<svg {edge} viewBox="{LEFT} {TOP} {RIGHT - LEFT} {BOTTOM - TOP}">{inside}</svg>'
    if chosen:
        at = x(chosen)
        beside, anchor = (-5, "end") if at > RIGHT * 3 / 4 else (5, "start")
        drawn += (
            f'<path class="chosen" d="M{at} {TOP - 10}V{BOTTOM}"/><text class="chosen-text" x="{at + beside:g}"'
            f' y="{TOP - 3}" text-anchor="{anchor}">chosen: step {chosen}</text>'
        )
    return axes(f"{name} over training steps", across, up, "step", drawn)


def calibration(models: Mapping[str, Sequence[tuple[float, float, float]]]) -> Html:
    """How often answers are right, by how sure the model was: of each tone its (confidence, accuracy, rows)."""
    axis = [0.0, 0.25, 0.5, 0.75, 1.0]
    x, y = scale(axis, LEFT, RIGHT), scale(axis, BOTTOM, TOP)
    drawn = f'<path class="even" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>'
    for tone, bins in models.items():
        most = max((rows for *_, rows in bins), default=1.0)
        drawn += f'<polyline class="line {tone}" points="{" ".join(f"{x(a)},{y(b)}" for a, b, _ in bins)}"/>'
        drawn += "".join(
            f'<circle class="point {tone}" cx="{x(a)}" cy="{y(b)}" r="{2 + 4 * math.sqrt(rows / most):.1f}"/>'
            for a, b, rows in bins
        )
    return axes("Share of right answers by confidence", axis, axis, "confidence", drawn)


def finite(curve: Curve) -> list[tuple[int, float]]:
    return [(step, value) for step, value in curve if math.isfinite(value)]
