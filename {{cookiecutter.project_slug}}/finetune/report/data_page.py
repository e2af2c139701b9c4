"""One self-contained HTML page to review the data by: how much there is, how it is spread, and what it says."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from finetune.report.html import head, scrolled, table


def make_data_page(
    report: Mapping[str, Any],
    balance: Sequence[Mapping[str, Any]],
    lengths: Sequence[Mapping[str, Any]],
    reviewed: Mapping[str, Sequence[tuple[str, int | None, Mapping[str, Any]]]],
) -> str:
    """The page as a text.

    `balance` are rows of class, split and examples; `lengths` of split, tokens and examples; `reviewed` are, under a
    heading, examples with their place and their tokens.
    """
    counts = ", ".join(f"{number:,} {split}" for split, number in report["examples"].items())
    tokens = bars(lengths, "tokens", lambda value: f"up to {value:,}")
    return "\n".join(
        [
            head("Data to review"),
            f"<h1>{counts} examples, without errors.</h1>",
            warnings(report["warnings"]),
            f"<section><h2>Length in tokens</h2>{tokens}</section>",
            f"<section><h2>Classes</h2>{bars(balance, 'class', str)}</section>" if balance else "",
            *(section(title, examples) for title, examples in reviewed.items()),
            "</html>\n",
        ]
    )


def warnings(counts: Mapping[str, int]) -> str:
    if not counts:
        return '<p class="soft">No warnings.</p>'
    told = ", ".join(f"{number} {escape(code)}" for code, number in counts.items())
    return f'<p class="soft">Warnings: {told}. Look at them with: finetune check data/prepared/*.jsonl</p>'


def bars(rows: Sequence[Mapping[str, Any]], key: str, name: Any) -> str:
    """A table with a bar for each value of `key` and split, as long as its share of that split."""
    splits = list(dict.fromkeys(row["split"] for row in rows))
    totals = {split: sum(row["examples"] for row in rows if row["split"] == split) for split in splits}
    counts = {(row[key], row["split"]): row["examples"] for row in rows}
    values = list(dict.fromkeys(row[key] for row in rows))
    values.sort(key=(lambda v: v) if key == "tokens" else (lambda v: -sum(counts.get((v, s), 0) for s in splits)))
    most = max(count / totals[split] for (_, split), count in counts.items())

    def cell(value: Any, split: str) -> str:
        count = counts.get((value, split), 0)
        width = 100 * count / totals[split] / most
        return f'<td><div class="bar" style="width: {width:.0f}%"></div><span>{count or ""}</span></td>'

    lines = "".join(
        f"<tr><th>{escape(name(value))}</th>{''.join(cell(value, split) for split in splits)}</tr>" for value in values
    )
    heads = "".join(f"<th>{escape(split)}</th>" for split in splits)
    return scrolled(f'<table class="bars"><tr><th></th>{heads}</tr>{lines}</table>')


def section(title: str, examples: Sequence[tuple[str, int | None, Mapping[str, Any]]]) -> str:
    """Some examples, turn by turn."""
    rows = [[place, "" if tokens is None else tokens, turns(example)] for place, tokens, example in examples]
    return f"<section><h2>{escape(title)}</h2>{table(['line', 'tokens', 'example'], rows)}</section>"


def turns(example: Mapping[str, Any]) -> str:
    """What is said, by whom, a turn a line; what is no text is shown as JSON."""
    lines = []
    for key, value in example.items():
        for message in value if isinstance(value, list) else [value]:
            if isinstance(message, Mapping) and "role" in message:
                lines.append(f"{message['role']}: {message.get('content') or dict(message)}")
            else:
                lines.append(f"{key}: {message}")
    return "\n".join(lines)
