"""The learning curve of a project: scores by training rows, and in words what twice the rows would bring."""

from collections.abc import Sequence

from finetune.core.records.variants import CurveFit, CurveRow, LearningCurve, VariantRecord
from finetune.scoring.power_law import Point, fit_power_law

COLUMNS = list(CurveRow.__annotations__)
NEGLIGIBLE = 0.01  # a gain that is not worth twice the rows


def learning_curve(records: Sequence[VariantRecord], metric: str, groups: Sequence[int]) -> LearningCurve:
    """Return the curve through trainings that have answered the same test rows; `groups` has the group of each."""
    ordered = sorted(records, key=lambda one: (one["rows"], one["seed"]))
    points = [Point(one["rows"], [float(score) for score in one["scores"]["rows"].split()]) for one in ordered]
    fit = fit_power_law(points, groups)
    return {
        "metric": metric,
        "test_rows": len(groups),
        "points": [row_of(one) for one in ordered],
        "fit": fit,
        "verdict": verdict_of(fit, metric, len(points)),
        "notes": notes_of(fit, metric, ordered),
    }


def row_of(record: VariantRecord) -> CurveRow:
    scores = record["scores"]
    return {
        "kind": "trained",
        "rows": record["rows"],
        "seed": record["seed"],
        "n_epochs": record.get("n_epochs"),
        "score": scores["score"],
        "low": scores["low"],
        "high": scores["high"],
        "usd": record.get("usd"),
        "model": record["model"],
    }


def table_of(curve: LearningCurve) -> list[CurveRow]:
    """Return the trainings, and then the points of the fitted law."""
    fitted: list[CurveRow] = [
        {"kind": "fitted", "seed": "", "n_epochs": "", "usd": "", "model": "", **level}
        for level in (curve["fit"]["line"] if curve["fit"] else [])
    ]
    return [*curve["points"], *fitted]


def sized(value: float, metric: str) -> str:
    """Return a difference of scores with its unit: points for the accuracy."""
    return f"{100 * value:.1f} points" if metric == "accuracy" else f"{value:.3f} {metric}"


def verdict_of(fit: CurveFit | None, metric: str, trainings: int) -> str:
    """Say what twice the rows would bring, or why that is not known."""
    if fit is None:
        return "It is not known what more rows would bring: a curve needs three different numbers of rows."
    if not fit["fits"]:
        return "It is not known what more rows would bring: the scores do not fall on a power law."
    low, high, twice = fit["gain_low"], fit["gain_high"], fit["twice"]
    rows = f"the rows ({twice['rows']:,})"
    if high <= NEGLIGIBLE:
        return f"Twice {rows} would bring {sized(high, metric)} at most: more rows of this kind hardly help."
    ends = f"95 % interval {sized(low, metric).split()[0]} to {sized(high, metric)}, from {trainings} trainings"
    if low > 0:
        return (
            f"Twice {rows} would bring about {sized(fit['gain'], metric)} ({ends}). By the fitted law,"
            f" {metric} is {fit['now']['score']:.3f} now and then {twice['score']:.3f} ({twice['low']:.3f} to"
            f" {twice['high']:.3f})."
        )
    return f"It is not known what twice {rows} would bring: anything from nothing to {sized(high, metric)} ({ends})."


def notes_of(fit: CurveFit | None, metric: str, records: Sequence[VariantRecord]) -> list[str]:
    """Return what the figures assume."""
    notes = []
    if fit:
        spread = fit["spread_between_trainings"]
        if fit["spread_from_trainings"]:
            notes.append(
                f"How much trainings with the same rows differ is estimated: a standard deviation of {spread:.3f}"
                f" {metric}, from {fit['spread_from_trainings']} repeated trainings and a cautious assumption."
            )
        else:
            notes.append(
                f"How much trainings with the same rows differ was not measured; a standard deviation of {spread:.3f}"
                f" {metric} is assumed. To measure it, which narrows the intervals as a rule, add seeds:"
                " finetune learning-curve --seeds"
                f" {','.join(str(records[0]['seed'] + number) for number in range(3))}"
            )
        notes.append(
            "The law assumes that more rows of the same kind and quality never harm. Other rows, such as of cases that"
            " fail today, may bring more."
        )
    if len({one.get("n_epochs") for one in records}) > 1:
        notes.append("The trainings have different numbers of epochs, which `auto` chooses by the number of rows.")
    return notes
