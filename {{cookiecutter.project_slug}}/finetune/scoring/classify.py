"""Compute the metrics of classes."""

from collections.abc import Sequence
from typing import Any


def name_of_no_class(labels: Sequence[str]) -> str:
    """Return what tables show for an answer that names no class: "(none)", in more brackets if a class is called so."""
    name = "(none)"
    while name in labels:
        name = f"({name})"
    return name


def classification(
    expected: Sequence[str], predicted: Sequence[str], labels: Sequence[str], beta: float | None = None
) -> dict[str, Any]:
    """Compute accuracy, weighted and macro F1, precision, recall, F-beta if `beta` is given, and a list per class.

    With two labels, `precision`, `recall` and `f_beta` are those of the second label; with more, they are macro
    averages. A macro average covers the classes that some row expects, so it covers the same classes for every model.
    Source: scikit-learn.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    truth, guess, names = list(expected), list(predicted), list(labels)
    occurring = set(truth)
    seen = [name for name in names if name in occurring] or names
    columns = precision_recall_fscore_support(truth, guess, labels=names, zero_division=0.0)
    rounded = [[round(float(value), 4) for value in column] for column in columns]
    precision, recall, f_beta, _ = precision_recall_fscore_support(
        truth,
        guess,
        labels=names[1:] if len(names) == 2 else seen,
        average="macro",
        beta=1.0 if beta is None else beta,
        zero_division=0.0,
    )
    return {
        "accuracy": round(float(accuracy_score(truth, guess)), 4),
        "weighted_f1": round(float(f1_score(truth, guess, labels=names, average="weighted", zero_division=0.0)), 4),
        "macro_f1": round(float(f1_score(truth, guess, labels=seen, average="macro", zero_division=0.0)), 4),
        "precision": round(float(precision), 4),
        "recall": round(float(recall), 4),
        **({} if beta is None else {"f_beta": round(float(f_beta), 4)}),
        # A list: DVC leaves lists out of its tables, where sixteen columns would hide the two that matter.
        "classes": [
            {"class": name, "precision": p, "recall": r, "f1": f, "n": int(n)}
            for name, p, r, f, n in zip(names, *rounded, strict=True)
        ],
    }
