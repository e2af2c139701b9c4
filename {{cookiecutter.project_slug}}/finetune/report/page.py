"""One self-contained HTML page: was the fine-tune worth it, and where does it err."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from finetune.report.html import head, table

ROWS_SHOWN = 25


def make_page(
    record: Mapping[str, Any],
    metrics: Mapping[str, Any],
    labels: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    predicted: Mapping[str, Sequence[str]],
    curves: str,
) -> str:
    """The page as a text, the same for the same figures. `curves` is the CSV that the train stage wrote."""
    expected = [row["expected"] for row in rows]
    base, tuned = metrics["base"]["accuracy"], metrics["tuned"]["accuracy"]
    word = "better" if tuned > base else "worse" if tuned < base else "no better"
    wrong = [i for i in range(len(rows)) if predicted["tuned"][i] != expected[i]]
    facts = {
        "model": record["model"],
        "base": record["base"],
        "trained on from": ", ".join(record["lineage"]) or "the base itself",
        "checkpoint": f"step {record['chosen']['step']}: {record['chosen']['why']}",
        "job": record["job"],
        "seed": record["seed"],
        "hyperparameters": ", ".join(f"{key} {value}" for key, value in sorted(record["hyperparameters"].items())),
        "trained tokens": record["trained_tokens"],
        "training cost": f"${record['usd']}" if record["usd"] != "unknown" else "unknown",
        "fingerprint": record["fingerprint"],
    }
    return "\n".join(
        [
            head("Fine-tune report"),
            f'<p class="verdict">On {len(rows)} test rows the tuned model is right in <b>{tuned:.1%}</b>,'
            f" the base model in {base:.1%}: it is <b>{word}</b> by {abs(tuned - base) * 100:.1f} points.</p>",
            f'<p class="soft">Weighted F1: {metrics["tuned"]["weighted_f1"]:.3f} tuned,'
            f" {metrics['base']['weighted_f1']:.3f} base.</p>",
            "<h2>Training</h2>",
            f"<p>{escape(record['verdict_words'])}</p>",
            curve(curves),
            "<h2>Per class, tuned</h2>",
            table(
                ["class", "precision", "recall", "F1", "rows"],
                [
                    [c["class"], *(f"{c[k]:.2f}" for k in ("precision", "recall", "f1")), c["n"]]
                    for c in metrics["tuned"]["classes"]
                ],
            ),
            "<h2>Confusion, tuned: rows are the truth</h2>",
            confusion(expected, predicted["tuned"], labels),
            f"<h2>What the tuned model gets wrong ({len(wrong)} of {len(rows)})</h2>",
            table(
                ["asked", "expected", "tuned", "base"],
                [
                    [rows[i]["asked"], expected[i], predicted["tuned"][i], predicted["base"][i]]
                    for i in wrong[:ROWS_SHOWN]
                ],
            ),
            f'<p class="soft">The first {ROWS_SHOWN}; all rows lie in predictions/.</p>'
            if len(wrong) > ROWS_SHOWN
            else "",
            "<h2>Lineage</h2>",
            table(["", ""], [[key, value] for key, value in facts.items()]),
            "</html>\n",
        ]
    )


def confusion(expected: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> str:
    """Counts of truth by prediction, shaded by their share of the truth's rows."""
    counts = Counter(zip(expected, predicted, strict=True))
    columns = [*labels, *sorted(set(predicted) - set(labels))]
    lines = []
    for truth in labels:
        total = sum(counts[truth, column] for column in columns) or 1
        cells = "".join(
            f'<td class="n" style="background: rgb(var(--mark) / {counts[truth, column] / total * 0.6:.2f})">'
            f"{counts[truth, column] or ''}</td>"
            for column in columns
        )
        lines.append(f"<tr><th>{escape(truth)}</th>{cells}</tr>")
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'


def curve(text: str) -> str:
    """Training loss as a line and validation loss as points over the steps, as inline SVG."""
    rows = list(csv.DictReader(io.StringIO(text)))
    series = {
        name: [(float(row["step"]), float(row[name])) for row in rows if row.get(name)]
        for name in ("train_loss", "valid_loss")
    }
    if not series["train_loss"]:
        return '<p class="soft">The provider reported no curve.</p>'
    last = max(x for points in series.values() for x, _ in points)
    top = max(y for points in series.values() for _, y in points) or 1

    def at(x: float, y: float) -> tuple[float, float]:
        return round(40 + x / last * 640, 1), round(200 - y / top * 180, 1)

    line = " ".join(f"{x},{y}" for x, y in (at(*point) for point in series["train_loss"]))
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="4" fill="var(--good)"/>' for x, y in (at(*p) for p in series["valid_loss"])
    )
    return (
        '<svg viewBox="0 0 700 230" role="img" aria-label="Loss over training steps">'
        '<path d="M40 10 V200 H690" fill="none" stroke="var(--line)"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--soft)" stroke-width="1.5"/>{dots}'
        f'<g fill="var(--soft)" font-size="12"><text x="4" y="24">{top:.1f}</text><text x="20" y="204">0</text>'
        f'<text x="640" y="220">step {last:.0f}</text>'
        '<text x="420" y="24">line: training loss, dots: validation loss</text></g></svg>'
    )
