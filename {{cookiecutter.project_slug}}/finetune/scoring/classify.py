"""How well answers name the right class."""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

NONE = "(none)"  # stands in tables for an answer that names no class, or more than one
MARKS = " \t\n.!\"'`*"  # around an answer, say nothing


def label_of(answer: str, labels: Sequence[str]) -> str:
    """The class that an answer names: the answer itself, or the only class that occurs in it as a word.

    The same leniency for every model, so that a chatty base is not failed for its manners.
    """
    text, known = answer.casefold().strip(MARKS), by_folded(tuple(labels))
    chosen = known.get(text) or {
        label
        for folded, same in known.items()
        if folded in text and re.search(rf"(?<!\w){re.escape(folded)}(?!\w)", text)
        for label in same
    }
    return next(iter(chosen)) if len(chosen) == 1 else NONE


@lru_cache(maxsize=8)
def by_folded(labels: tuple[str, ...]) -> dict[str, set[str]]:
    """The classes by what is left of them without case and marks, made once for all answers."""
    found = defaultdict(set)
    for label in labels:
        found[label.casefold().strip(MARKS) or label].add(label)
    return dict(found)


def classification(
    expected: Sequence[str], predicted: Sequence[str], labels: Sequence[str], beta: float | None = None
) -> dict[str, Any]:
    """Accuracy, weighted and macro F1, precision, recall, F-beta where `beta` is given, and a list of all per class.

    `precision`, `recall` and `f_beta` are those of the second label where there are two, else macro averages. A macro
    average is over the classes that are expected somewhere, and so over the same ones for every model.
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
