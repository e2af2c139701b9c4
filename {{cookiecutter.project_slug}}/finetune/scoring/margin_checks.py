"""Warn of margins that no answers could be within, because the rows are too few to show it."""

import math
from collections.abc import Mapping

from finetune.core.callbacks import Say
from finetune.core.counted import counted
from finetune.core.sections.evaluate import Also, Rescued
from finetune.core.sections.export import Export
from finetune.scoring.mean_interval import LEVEL


def check_margin_of_exports(settings: Export, rows: int, say: Say) -> None:
    """Warn of too few test rows for export.margin."""
    if settings.formats and (lack := lack_of_rows(rows, settings.margin)):
        say(
            f"warning: {counted(rows, 'test row')}: too few to show that an exported file that answers as before is"
            f" within export.margin, {settings.margin:g}. {lack}"
        )


def check_margin_of_rescued(settings: Rescued, rows: int, say: Say) -> None:
    """Warn of too few test rows for evaluate.rescued.margin."""
    if lack := lack_of_rows(rows, settings.margin):
        say(
            f"warning: evaluate.rescued: {counted(rows, 'test row')}: too few to show that a model that answers as"
            f" {settings.model} did is within the margin of {settings.margin:g}. {lack}"
        )


def check_margins_of_sets(sets: Mapping[str, Also], rows: Mapping[str, int], say: Say) -> None:
    """Warn of regression sets with too few rows for their margin; `rows` has their numbers by the sets' names."""
    for name, one in sets.items():
        fewest = fewest_rows(one.margin)
        if fewest is None:
            say(f"warning: evaluate.also.{name}.margin is 0, so `kept` is 1 only for a model that is better.")
        elif rows[name] < fewest:
            say(
                f"warning: evaluate.also.{name} has {counted(rows[name], 'row')}: too few to show that a model that"
                f" answers as before is within the margin of {one.margin:g}. Give at least {fewest:,} rows, or a larger"
                " margin."
            )


def lack_of_rows(rows: int, margin: float) -> str:
    """Return in a sentence how many rows the margin takes; "" if there are as many."""
    fewest = fewest_rows(margin)
    if fewest is None:
        return "No number of rows shows a margin of 0."
    return f"That takes {fewest:,} rows." if rows < fewest else ""


def fewest_rows(margin: float) -> int | None:
    """Return how many rows show that a model that answers as before is within the margin; None: no number does.

    Of n rows without a change, the lower end of Tango's interval is -z²/(n + z²), with z = 1.96 for 95 %.
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + LEVEL) / 2))
    return math.ceil(z**2 * (1 - margin) / margin) if margin else None
