"""How well answers name the right class."""

import re
from collections.abc import Sequence
from typing import Any

NONE = "(none)"  # stands in tables for an answer that names no class, or more than one


def label_of(answer: str, labels: Sequence[str]) -> str:
    """The class that an answer names: the answer itself, or the only class that occurs in it as a word.

    The same leniency for every model, so that a chatty base is not failed for its manners.
    """
    text = answer.casefold().strip(" \t\n.!\"'`*")
    found = {label for label in labels if re.search(rf"(?<!\w){re.escape(label.casefold())}(?!\w)", text)}
    exact = {label for label in labels if label.casefold() == text}
    chosen = exact or found
    return chosen.pop() if len(chosen) == 1 else NONE


def classification(expected: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy and weighted F1, and a list of precision, recall and F1 per class with its number of rows."""
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    truth, guess, names = list(expected), list(predicted), list(labels)
    columns = precision_recall_fscore_support(truth, guess, labels=names, zero_division=0.0)
    rounded = [[round(float(value), 4) for value in column] for column in columns]
    return {
        "accuracy": round(float(accuracy_score(truth, guess)), 4),
        "weighted_f1": round(float(f1_score(truth, guess, labels=names, average="weighted", zero_division=0.0)), 4),
        # A list: DVC leaves lists out of its tables, where sixteen columns would hide the two that matter.
        "classes": [
            {"class": name, "precision": p, "recall": r, "f1": f, "n": int(n)}
            for name, p, r, f, n in zip(names, *rounded, strict=True)
        ],
    }
