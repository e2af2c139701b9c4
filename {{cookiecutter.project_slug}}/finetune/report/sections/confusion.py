"""Confusion matrices, which stay readable with hundreds of classes."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from finetune.report.model_metrics import MAIN_MODELS
from finetune.report.stage_outputs import Results, by_model

CLASSES_SHOWN = 20
NO_CLASS_SHOWN = 3  # columns for answers that are no class, such as "(none)"
SIDE_BY_SIDE = 9  # the most classes with which two matrices fit beside each other
OTHERS = "(others)"

Pairs = Sequence[tuple[str, str]]  # the expected and the predicted class of each row


class Cell(NamedTuple):
    rows: int
    right: bool
    shade: float  # from the share of the row


class Matrix(NamedTuple):
    title: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


class ConfusionView(NamedTuple):
    shown: int  # classes
    hidden: int
    side_by_side: bool
    matrices: list[Matrix]


def confusion_view(results: Results) -> ConfusionView | None:
    """Return the matrices of base and tuned; None if the answers are no classes."""
    pairs = {model: class_pairs(results, model) for model in MAIN_MODELS}
    if not pairs["tuned"]:
        return None
    classes = list(by_model(results.tables["classes"], "class")) or sorted({actual for actual, _ in pairs["tuned"]})
    shown = most_confused(pairs["tuned"], classes)
    matrices = [matrix(title, pairs[model], shown, classes) for model, title in MAIN_MODELS.items() if pairs[model]]
    return ConfusionView(len(shown), len(classes) - len(shown), len(shown) <= SIDE_BY_SIDE, matrices)


def class_pairs(results: Results, model: str) -> list[tuple[str, str]]:
    """Return the expected class and the model's class of each row."""
    return [(row["actual"], row["predicted"]) for row in results.tables[f"confusion_{model}"]]


def most_confused(pairs: Pairs, classes: Sequence[str]) -> list[str]:
    """Return the classes with the most errors, in the order of `classes`."""
    errors = Counter(label for pair in pairs if pair[0] != pair[1] for label in pair)
    kept = set(sorted(classes, key=lambda label: -errors[label])[:CLASSES_SHOWN])
    return [label for label in classes if label in kept]


def matrix(title: str, pairs: Pairs, shown: Sequence[str], classes: Sequence[str]) -> Matrix:
    """Count predictions by expected class.

    The most frequent answers that are no class have columns of their own; all that have no column share "(others)".
    """
    rows = [(actual, predicted) for actual, predicted in pairs if actual in shown]
    no_class = Counter(predicted for _, predicted in rows if predicted not in classes)
    columns = [*shown, *(name for name, _ in no_class.most_common(NO_CLASS_SHOWN))]
    others = OTHERS
    while others in columns:  # a class may have this name
        others += "*"
    counts = Counter((actual, predicted if predicted in columns else others) for actual, predicted in rows)
    if any(predicted == others for _, predicted in counts):
        columns.append(others)
    lines = []
    for label in shown:
        total = sum(counts[label, column] for column in columns) or 1
        cells = [
            Cell(n, label == column, 0.12 + 0.5 * n / total) for column in columns for n in [counts[label, column]]
        ]
        lines.append((label, cells))
    return Matrix(title.capitalize(), columns, lines)
