"""Truth by prediction as a shaded table, which stays readable with hundreds of classes."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from finetune.report.html import Html, scrolled

SHOWN = 20  # classes
STRANGE = 3  # answers that are no class, such as "(none)"
OTHERS = "(others)"

Pairs = Sequence[tuple[str, str]]


def worst(pairs: Pairs, classes: Sequence[str]) -> list[str]:
    """The classes to show, in their order: all, or those with the most errors."""
    errors = Counter(label for pair in pairs if pair[0] != pair[1] for label in pair)
    kept = set(sorted(classes, key=lambda label: -errors[label])[:SHOWN])
    return [label for label in classes if label in kept]


def confusion(pairs: Pairs, labels: Sequence[str], classes: Sequence[str]) -> Html:
    """A line for each label; a shade is the share of the line, blue where it is right and red where it is not.

    Answers that are no class have columns of their own, and classes that are not among the labels share one.
    """
    rows = [(actual, predicted) for actual, predicted in pairs if actual in labels]
    strange = Counter(predicted for _, predicted in rows if predicted not in classes)
    columns = [*labels, *(name for name, _ in strange.most_common(STRANGE))]
    counts = Counter((actual, predicted if predicted in columns else OTHERS) for actual, predicted in rows)
    if any(predicted == OTHERS for _, predicted in counts):
        columns.append(OTHERS)
    lines = []
    for label in labels:
        total = sum(counts[label, column] for column in columns) or 1
        cells = "".join(cell(counts[label, column], total, label == column) for column in columns)
        lines.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    return scrolled(f'<table class="confusion"><tr><th></th>{heads}</tr>{"".join(lines)}</table>')


def cell(count: int, total: int, right: bool) -> str:
    if not count:
        return "<td></td>"
    shade = f"rgb(var(--{'right' if right else 'wrong'}) / {0.12 + 0.5 * count / total:.2f})"
    return f'<td style="background: {shade}">{count}</td>'
