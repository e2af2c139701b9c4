"""Say which difference between two models a test split can show."""

import math

from finetune.core.records.checks import ValidationReport

SMALL = 10  # points: a split that shows only larger differences is too small for most comparisons


def shown_difference(report: ValidationReport) -> str:
    """Return a sentence, with what to do if the test split is small."""
    rows, found = f"{report['examples']['test']:,} test rows", report["detectable_difference"]
    if groups := report.get("test_groups"):
        rows += f" in {groups:,} group{'s' * (groups > 1)}"
    more = "groups" if groups else "rows"
    if found is None:
        return f"warning: with {rows}, no difference can be shown. Add {more}, or raise data.split.test."
    points = max(1, math.ceil(round(found * 100, 2)))
    unit = "point" if points == 1 else "points"
    assumed = f"80 % power, {report['difference_assumes']}"
    words = f"with {rows}, a difference of {points} {unit} can be shown ({assumed})."
    return words if points <= SMALL else f"warning: {words} For smaller ones, add {more}, or raise data.split.test."
