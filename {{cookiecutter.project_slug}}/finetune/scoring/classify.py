"""Score answers that name a class."""

import re
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MARKS = " \t\n.!\"'`*"  # ignored around an answer
SPACES = " \t\n"


def label_of(answer: str, labels: Sequence[str], codes: bool = False) -> str | None:
    """Return the class that an answer names: the whole answer, or the only class that occurs in it as a word.

    None if it names no class, or several. The same rule for every model, so that verbose answers are scored fairly.
    Case and the marks around an answer decide only between classes that differ in nothing else. `codes` says that
    `labels` are codes: in a sentence they count only as they are written, because "a" and "I" are words too.
    """
    for form, known in labels_by_text(tuple(labels)):
        if chosen := known.get(form.of(answer)):
            return only(chosen)
    if codes:
        return only({label for label in labels if has_word(answer, label)})
    form, known = labels_by_text(tuple(labels))[-1]
    text = form.of(answer)
    found: set[str] = set()
    for folded, same in known.items():
        if has_word(text, folded):
            found |= {label for label in same if has_word(answer, label)} if len(same) > 1 else same
    return only(found)


def only(labels: Set[str]) -> str | None:
    return next(iter(labels)) if len(labels) == 1 else None


def has_word(text: str, word: str) -> bool:
    return word in text and bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text))


@dataclass(frozen=True)
class Form:
    """What is ignored where answers are compared with classes."""

    ignores_case: bool
    ignored_around: str

    def of(self, text: str) -> str:
        """Return a text in this form."""
        return (text.casefold() if self.ignores_case else text).strip(self.ignored_around)


FORMS = (Form(False, SPACES), Form(False, MARKS), Form(True, SPACES), Form(True, MARKS))  # the strictest first


@lru_cache(maxsize=8)
def labels_by_text(labels: tuple[str, ...]) -> list[tuple[Form, dict[str, set[str]]]]:
    """Group the classes by their text in each form; computed once for all answers."""
    groups: list[tuple[Form, dict[str, set[str]]]] = []
    for form in FORMS:
        known = defaultdict(set)
        for label in labels:
            known[form.of(label) or label].add(label)
        groups.append((form, dict(known)))
    return groups


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
