"""Write the tables for the plots and the report."""

from collections.abc import Mapping, Sequence

from finetune.core.disk import write_csv
from finetune.core.paths import REPORTS
from finetune.core.records.answers import Prediction
from finetune.core.records.score_tables import GroupRow, MetricRow, PairRow, RowToRead
from finetune.scoring.evaluation import RowGroups, by_cell, pairs
from finetune.scoring.metric_differences import metric_rows
from finetune.scoring.tasks import Scored

CONFUSION = {"base": REPORTS / "confusion_base.csv", "tuned": REPORTS / "confusion_tuned.csv"}
CLASSES = REPORTS / "classes.csv"
CALIBRATION = REPORTS / "calibration.csv"
METRICS = REPORTS / "metrics.csv"
PAIRS = REPORTS / "pairs.csv"
BY_GROUP = REPORTS / "groups.csv"
ROWS = REPORTS / "rows.csv"
ROWS_PER_KIND = 50


def write_tables(
    tuned: Sequence[Prediction],
    expected: Sequence[str],
    scored: Mapping[str, Scored],
    groups: RowGroups,
    cells: Sequence[str],
) -> None:
    """Write all tables. `expected` is the right answer of each row, `cells` its cell of data.by ([] without it)."""
    for name, path in CONFUSION.items():
        answered = zip(expected, scored[name].predicted, strict=True) if scored[name].classes else ()
        write_csv(path, ["actual", "predicted"], [{"actual": a, "predicted": p} for a, p in answered])
    classes = [{"model": name, **row} for name, one in scored.items() for row in one.classes]
    write_csv(CLASSES, ["model", "class", "precision", "recall", "f1", "n"], classes)
    calibration = [{"model": name, **row} for name, one in scored.items() for row in one.calibration]
    write_csv(CALIBRATION, ["model", "confidence", "accuracy", "rows"], calibration)
    write_csv(METRICS, list(MetricRow.__annotations__), metric_rows(scored, groups, expected))
    write_csv(PAIRS, list(PairRow.__annotations__), pairs(scored, groups))
    write_csv(BY_GROUP, list(GroupRow.__annotations__), by_cell(scored, cells, groups) if cells else [])
    write_csv(ROWS, list(RowToRead.__annotations__), rows_to_read(tuned, expected, scored["base"], scored["tuned"]))


def rows_to_read(rows: Sequence[Prediction], expected: Sequence[str], base: Scored, tuned: Scored) -> list[RowToRead]:
    """Choose rows to read: lost and won by tuning, the largest change first; wrong, the most confident first."""
    change = [after - before for before, after in zip(base.scores, tuned.scores, strict=True)]
    sure = tuned.confidence or [0.0] * len(rows)
    kinds = {
        "lost": sorted((i for i, by in enumerate(change) if by < 0), key=lambda i: change[i]),
        "won": sorted((i for i, by in enumerate(change) if by > 0), key=lambda i: -change[i]),
        "wrong": sorted((i for i, s in enumerate(tuned.scores) if s < 1), key=lambda i: (-sure[i], tuned.scores[i])),
    }
    return [
        {
            "kind": kind,
            "asked": rows[i]["asked"],
            "expected": expected[i],
            "base": base.predicted[i],
            "tuned": tuned.predicted[i],
            "base_score": round(base.scores[i], 4),
            "tuned_score": round(tuned.scores[i], 4),
            "confidence": round(tuned.confidence[i], 4) if tuned.confidence else "",
        }
        for kind, chosen in kinds.items()
        for i in chosen[:ROWS_PER_KIND]
    ]
