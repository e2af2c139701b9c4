"""All models side by side: the first metric, pairs, graders, and the other metrics."""

from collections.abc import Sequence
from typing import NamedTuple

from finetune.core.records.evaluation import Evaluation
from finetune.report.axes import ticks
from finetune.report.dot_plots import TICKS, Mark, axis_labels, dot_plot
from finetune.report.grader_scores import grader_table
from finetune.report.model_metrics import (
    MAIN_MODELS,
    metric_title,
    metrics,
    model_label,
    models,
    numbers,
    short_label,
    tone,
)
from finetune.report.number_formats import figure, signed
from finetune.report.page_tables import Cell, Table
from finetune.report.pairs import Pair, read_pairs
from finetune.report.stage_outputs import Results, Row


class ComparisonView(NamedTuple):
    scores: Table
    pairs: Table | None
    unclear: list[Pair]  # pairs without a clear winner
    trainings: str  # how much the score differs between trainings with other seeds; "" if that was not measured
    graders: Table | None
    other_metrics: Table | None
    signature: str | None  # sacrebleu's, which names the version of a score


def comparison_view(results: Results) -> ComparisonView:
    """Return the tables of the section; None for those without rows."""
    evaluation = results.evaluation
    pairs = read_pairs(results.tables["pairs"])
    return ComparisonView(
        scores=score_table(evaluation),
        pairs=difference_table(pairs) if pairs else None,
        unclear=[pair for pair in pairs if not pair.verdict.startswith(("better", "worse"))],
        trainings=evaluation["trainings"]["verdict"] if "trainings" in evaluation else "",
        graders=grader_table(evaluation),
        other_metrics=metric_table(evaluation, metrics(evaluation)[1:], results.tables["metrics"]),
        signature=evaluation["tuned"].get("signature"),
    )


def score_table(evaluation: Evaluation) -> Table:
    """Return the first metric of each model with its interval."""
    metric = evaluation["metric"]
    marks = {
        name: Mark(tone(name), model[metric], model[f"{metric}_low"], model[f"{metric}_high"])
        for name, model in models(evaluation).items()
    }
    lows, highs = ([model[f"{metric}_{end}"] for model in models(evaluation).values()] for end in ("low", "high"))
    axis = ticks(min(lows), max(highs), TICKS)
    rows: list[list[Cell]] = [
        [model_label(name), dot_plot(axis, [mark]), figure(mark.value), f"{figure(mark.low)} – {figure(mark.high)}"]
        for name, mark in marks.items()
    ]
    return Table(
        [f"{evaluation['n']:,} test rows", axis_labels(axis), metric_title(evaluation, metric), "95 % interval"], rows
    )


def difference_table(pairs: Sequence[Pair]) -> Table:
    """Return the difference of each pair with its interval and p-value."""
    axis = ticks(min(0.0, *(pair.low for pair in pairs)), max(0.0, *(pair.high for pair in pairs)), TICKS)
    rows: list[list[Cell]] = [
        [
            pair.label,
            dot_plot(axis, [Mark(tone(pair.model), pair.difference, pair.low, pair.high)], zero=True),
            signed(pair.difference),
            f"{signed(pair.low)} – {signed(pair.high)}",
            f"{pair.p_value:.3g}",
        ]
        for pair in pairs
    ]
    return Table(["", axis_labels(axis), "difference", "95 % interval", "p"], rows)


def metric_table(evaluation: Evaluation, names: Sequence[str], rows_of_metrics: Sequence[Row]) -> Table | None:
    """Return metrics by model; None without metrics. Those of base and tuned, and their difference, are first."""
    found = models(evaluation)
    main, others = ([name for name in found if (name in MAIN_MODELS) is wanted] for wanted in (True, False))
    by_metric = {row["metric"]: row for row in rows_of_metrics if row["model"] == "base"}
    rows: list[list[Cell]] = []
    for metric in names:
        values = {name: figure(numbers(model).get(metric)) for name, model in found.items()}
        differences = difference_texts(by_metric.get(metric)) if by_metric else []
        title = metric_title(evaluation, metric)
        rows.append([title, *(values[name] for name in main), *differences, *(values[name] for name in others)])
    between = ["tuned − base", "95 % interval"] if by_metric else []
    head: list[Cell] = ["", *map(short_label, main), *between, *map(short_label, others)]
    return Table(head, rows) if rows else None


def difference_texts(row: Row | None) -> list[str]:
    """Return a difference and its 95 % interval; empty texts without one."""
    if row is None:
        return ["", ""]
    value, low, high = (signed(float(row[f"difference{end}"])) for end in ("", "_low", "_high"))
    return [value, f"{low} – {high}"]
