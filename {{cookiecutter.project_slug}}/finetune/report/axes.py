"""Axes of charts: round tick values, and the place of a value on a line."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Tick(NamedTuple):
    at: float
    label: str


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round, evenly spaced values with at most `most` steps, from `low` or below to `high` or above."""
    span = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / most))
    for step in (unit * factor for factor in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.floor(round(low / step, 6)), math.ceil(round(high / step, 6))
        if last - first <= most:
            break
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]


def scale(axis: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Return a function from values to places on a line from `start` to `end`."""
    return lambda value: round(start + (value - axis[0]) / (axis[-1] - axis[0]) * (end - start), 2)


def place_ticks(axis: Sequence[float], start: float, end: float) -> list[Tick]:
    """Return the values of an axis with their places on a line from `start` to `end`."""
    at = scale(axis, start, end)
    return [Tick(at(value), tick_label(value)) for value in axis]


def tick_label(value: float) -> str:
    """Return a value with a minus sign in place of a hyphen."""
    return f"{abs(value):g}" if value >= 0 else f"−{abs(value):g}"
