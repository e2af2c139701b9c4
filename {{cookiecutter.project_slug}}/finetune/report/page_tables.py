"""Tables as data: cells are texts, numbers or small drawings. `templates/tables.html.jinja` draws them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from finetune.report.dot_plots import AxisLabels, DotPlot

# A column of such texts is aligned to the right: numbers, money, shares, times, intervals, and their gaps.
NUMBER = re.compile(r"[-+−$]{0,2}\d[\d.,]*(e[-+]\d+)?( %| ms| – [-+−]?[\d.]+)?|–|unknown|")
LONG = 40  # characters from which a column is set as running text


@dataclass(frozen=True)
class Badge:
    """A short text in the colour of a verdict: `good`, `bad` or `soft`."""

    kind: ClassVar[str] = "badge"
    tone: str
    text: str


Cell = str | int | float | Badge | DotPlot | AxisLabels


class Table(NamedTuple):
    """A head and rows of as many cells."""

    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]

    @property
    def classes(self) -> list[str]:
        """Return the class in style.css for each column."""
        columns = list(zip(*self.rows, strict=True))
        return [column_class(column) for column in columns] if columns else [""] * len(self.head)


def column_class(cells: Sequence[Cell]) -> str:
    """Return `plot` for drawings, `n` for numbers, `text` for long texts, and "" for others."""
    if any(isinstance(cell, DotPlot) for cell in cells):
        return "plot"
    if any(isinstance(cell, Badge) for cell in cells):
        return ""
    if all(NUMBER.fullmatch(str(cell)) for cell in cells):
        return "n"
    return "text" if any(len(str(cell)) > LONG for cell in cells) else ""
