"""Test rows to read: losses and wins of the tuned model against the base model, and its mistakes."""

from typing import NamedTuple

from finetune.report.number_formats import parse_number, percent
from finetune.report.page_tables import Badge
from finetune.report.stage_outputs import Results, Row

FIRST = 6  # rows of a kind that are visible at once
LONGEST = 700  # characters of a text on the page
KINDS = {  # title, and the key of `lift` that counts such rows
    "lost": ("Losses: the base model's answer scores higher", "losses"),
    "won": ("Wins: the tuned model's answer scores higher", "wins"),
    "wrong": ("Mistakes of the tuned model, most confident first", None),
}


class Answer(NamedTuple):
    model: str
    mark: Badge | None
    text: str
    confidence: str  # such as "97 %"; "" if not known


class ExampleRow(NamedTuple):
    asked: str
    expected: str
    answers: list[Answer]


class Kind(NamedTuple):
    title: str
    note: str
    first: list[ExampleRow]
    more: list[ExampleRow]


def example_kinds(results: Results) -> list[Kind]:
    """Return the rows of each kind; kinds without rows are left out."""
    kinds = []
    for kind, (title, counted) in KINDS.items():
        rows = [example_row(row) for row in results.tables["rows"] if row["kind"] == kind]
        if not rows:
            continue
        if counted:
            total = int(results.evaluation["lift"].get(counted, len(rows)))
            note = f"{total:,} of {results.evaluation['n']:,} rows"
            note += f"; the first {len(rows)} are shown" if total > len(rows) else ""
        else:
            note = f"{len(rows):,} rows"
        kinds.append(Kind(title, note, rows[:FIRST], rows[FIRST:]))
    return kinds


def example_row(row: Row) -> ExampleRow:
    """Return a row with the answers of base and tuned. The confidence is that of tuned."""
    confidence = parse_number(row["confidence"])
    sure = "" if confidence is None else percent(confidence)
    answers = [
        Answer(model, score_badge(row[f"{model}_score"]), shortened(row[model]), sure if model == "tuned" else "")
        for model in ("base", "tuned")
    ]
    return ExampleRow(shortened(row["asked"]), shortened(row["expected"]), answers)


def score_badge(cell: str) -> Badge | None:
    """Return ✓ for a score of 1, ✗ for 0, else the score; None without one."""
    score = parse_number(cell)
    if score is None:
        return None
    return {1.0: Badge("good", "✓"), 0.0: Badge("bad", "✗")}.get(score, Badge("soft", f"{score:.2f}"))


def shortened(text: str) -> str:
    """Return the beginning and the end of a long text."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST * 2 // 3]} […] {text[-LONGEST // 3 :]}"
