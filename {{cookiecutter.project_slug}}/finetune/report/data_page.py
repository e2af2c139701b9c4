"""reports/data.html: the prepared data to review, with counts, lengths, classes and examples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from finetune.core.records.checks import ClassCount, DoubtfulRow, LengthCount, ValidationReport
from finetune.core.records.prepared import Example
from finetune.core.shown_difference import shown_difference
from finetune.core.tool_calls import calls_as_json
from finetune.report.page_tables import Cell, Table
from finetune.report.rendering import render

LONGEST_TEXT = 300  # characters of a doubtful row


class ReviewedExample(NamedTuple):
    """An example, its line in the file and its length."""

    line: str
    tokens: int | None
    example: Example


class Count(NamedTuple):
    """The number of examples of a split that have a length or a class, by the name of its line."""

    name: str
    split: str
    examples: int


class Bar(NamedTuple):
    examples: int
    width: float  # in percent of the longest bar


class BarChart(NamedTuple):
    splits: list[str]
    rows: list[tuple[str, list[Bar]]]  # a bar for each split


def make_data_page(
    report: ValidationReport,
    balance: Sequence[ClassCount],
    lengths: Sequence[LengthCount],
    reviewed: Mapping[str, Sequence[ReviewedExample]],
    doubtful: Sequence[DoubtfulRow],
    doubtful_note: str,
) -> str:
    """Return the page as text. `reviewed` has examples by their heading.

    `doubtful_note` says why no doubtful answers were looked for; "" if they were.
    """
    by_class = [Count(row["class"], row["split"], row["examples"]) for row in balance]
    by_length = [Count(length_label(row["tokens"]), row["split"], row["examples"]) for row in lengths]
    totals = Counter[str]()
    for count in by_class:
        totals[count.name] += count.examples
    return render(
        "data_page.html.jinja",
        counts=", ".join(f"{number:,} {split}" for split, number in report["examples"].items()),
        shown=shown_difference(report),
        warnings=report["warnings"],
        lengths=bar_chart(by_length, [length_label(edge) for edge in sorted({row["tokens"] for row in lengths})]),
        classes=bar_chart(by_class, [name for name, _ in totals.most_common()]) if by_class else None,
        doubtful=doubtful_table(doubtful),
        doubtful_note=doubtful_note,
        reviewed={title: example_table(examples) for title, examples in reviewed.items()},
    )


def length_label(edge: int) -> str:
    return f"up to {edge:,}"


def bar_chart(counts: Sequence[Count], names: Sequence[str]) -> BarChart:
    """Return a line for each of `names`. The length of a bar is its share of the split."""
    splits = list(dict.fromkeys(count.split for count in counts))
    totals = {split: sum(count.examples for count in counts if count.split == split) for split in splits}
    examples = {(count.name, count.split): count.examples for count in counts}
    longest = max(number / totals[split] for (_, split), number in examples.items())

    def bar(name: str, split: str) -> Bar:
        number = examples.get((name, split), 0)
        return Bar(number, 100 * number / totals[split] / longest)

    return BarChart(splits, [(name, [bar(name, split) for split in splits]) for name in names])


def example_table(examples: Sequence[ReviewedExample]) -> Table:
    """Return examples with one line for each turn."""
    rows = [[line, "" if tokens is None else tokens, turns(example)] for line, tokens, example in examples]
    return Table(["line", "tokens", "example"], rows)


def doubtful_table(rows: Sequence[DoubtfulRow]) -> Table:
    """Return the rows that may have a wrong answer, with their texts cut."""
    cells: list[list[Cell]] = []
    for row in rows:
        answer, suggested, question = (shortened(text) for text in (row["answer"], row["suggested"], row["question"]))
        cells.append([f"{row['file']}:{row['line']}", answer, suggested, row["score"], question])
    return Table(["row", "answer", "the other rows say", "score", "question"], cells)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"


def turns(example: Example) -> str:
    """Return an example as lines of role and text. A message that is more than a text is shown with all its keys."""
    lines = []
    for key, value in example.items():
        for message in value if isinstance(value, list) else [value]:
            if isinstance(message, Mapping) and "role" in message:
                is_text = message.get("content") and not calls_as_json(message)
                lines.append(f"{message['role']}: {message['content'] if is_text else dict(message)}")
            else:
                lines.append(f"{key}: {message}")
    return "\n".join(lines)
