"""Say which difference between two models a test split can show."""

import math

from finetune.core.records import ValidationReport

SMALL = 10  # points: a split that shows only larger differences is too small for most comparisons


def shown_difference(report: ValidationReport) -> str:
    """Return a sentence, with what to do if the test split is small."""
    rows, found = report["examples"]["test"], report["detectable_difference"]
    if found is None:
        return f"warning: with {rows} test rows, no difference can be shown. Add rows, or raise data.split.test."
    points = max(1, math.ceil(round(found * 100, 2)))
    unit = "point" if points == 1 else "points"
    assumed = f"80 % power, {report['difference_assumes']}"
    words = f"with {rows:,} test rows, a difference of {points} {unit} can be shown ({assumed})."
    return words if points <= SMALL else f"warning: {words} For smaller ones, add rows, or raise data.split.test."
