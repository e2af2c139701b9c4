"""One self-contained HTML page: was the fine-tune worth it, and where does it err."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

from finetune.report.html import head, table

ROWS_SHOWN = 25


class Answers(Protocol):
    """A model's answers, scored: see `scoring.tasks.Scored`."""

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> Sequence[float]: ...
    @property
    def predicted(self) -> Sequence[str]: ...
    @property
    def classes(self) -> Sequence[Mapping[str, Any]]: ...


def make_page(
    record: Mapping[str, Any],
    metrics: Mapping[str, Any],
    expected: Sequence[str],
    asked: Sequence[str],
    models: Mapping[str, Answers],
    curves: str,
) -> str:
    """The page as a text, the same for the same figures.

    `models` has each model's answers, scored; `curves` is the CSV that the train stage wrote.
    """
    tuned, base = models["tuned"], models["base"]
    name = tuned.name
    lost = [i for i in range(len(asked)) if base.rows[i] > tuned.rows[i]]
    won = [i for i in range(len(asked)) if tuned.rows[i] > base.rows[i]]
    wrong = sorted((i for i in range(len(asked)) if tuned.rows[i] < 1), key=lambda i: tuned.rows[i])
    labels = [row["class"] for row in tuned.classes]
    sections = [
        head("Fine-tune report"),
        f'<p class="verdict">On {metrics["n"]} test rows {in_words(metrics["lift"]["verdict"])}.</p>',
        f'<p class="soft">{escape(metrics["lift"]["verdict"])}; {escape(metrics["lift"]["test"])} test.</p>',
        gates(metrics),
        table(
            ["model", name, "95 % interval", *others(metrics)],
            [
                [
                    model,
                    f"{metrics[model][name]:.3f}",
                    f"{metrics[model][f'{name}_low']:.3f} – {metrics[model][f'{name}_high']:.3f}",
                    *(f"{metrics[model][key]:.3f}" for key in others(metrics)),
                ]
                for model in models
            ],
        ),
        "<h2>Training</h2>",
        f"<p>{escape(record['verdict_words'])}</p>",
        curve(curves, record["chosen"]["step"]),
    ]
    if labels:
        columns = ("precision", "recall", "f1")
        per_class = [[c["class"], *(f"{c[k]:.2f}" for k in columns), c["n"]] for c in tuned.classes]
        sections += [
            "<h2>Per class, tuned</h2>",
            table(["class", "precision", "recall", "F1", "rows"], per_class),
            "<h2>Confusion, tuned: rows are the truth</h2>",
            confusion(expected, tuned.predicted, labels),
        ]
    for title, rows in (
        ("What the base model got right and the tuned one does not", lost),
        ("What the tuned model gets right and the base one did not", won),
        ("What the tuned model gets wrong", wrong),
    ):
        shown = [[asked[i], expected[i], tuned.predicted[i], base.predicted[i]] for i in rows[:ROWS_SHOWN]]
        sections += [
            f"<h2>{title}: {len(rows)} of {len(asked)}</h2>",
            table(["asked", "expected", "tuned", "base"], shown) if shown else '<p class="soft">None.</p>',
        ]
        if len(rows) > ROWS_SHOWN:
            sections.append(f'<p class="soft">The first {ROWS_SHOWN}; all rows lie in predictions/.</p>')
    sections += [
        "<h2>Lineage</h2>",
        table(["", ""], [[key, value] for key, value in facts_of(record).items()]),
        "</html>\n",
    ]
    return "\n".join(sections)


def in_words(verdict: str) -> str:
    if verdict.startswith(("better", "worse")):
        return f"the tuned model is <b>{escape(verdict.split(' (')[0])}</b> than the base model"
    return "there is <b>no difference shown</b> between base and tuned"


def others(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics beside the first, which every model has."""
    hidden = ("_low", "_high")
    found = [key for key, value in metrics["tuned"].items() if isinstance(value, float) and not key.endswith(hidden)]
    return found[1:7]


def gates(metrics: Mapping[str, Any]) -> str:
    if metrics["gates_failed"]:
        return f'<p class="verdict">Not good enough: {escape("; ".join(metrics["gates_failed"]))}.</p>'
    return ""


def facts_of(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
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


def curve(text: str, chosen: int | None) -> str:
    """Training loss as a line and validation loss as points over the steps, as inline SVG; a bar at the chosen step."""
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
    mark = ""
    if chosen:
        x = at(chosen, 0)[0]
        mark = f'<path d="M{x} 10 V200" stroke="rgb(var(--mark) / .4)" stroke-width="6"/>'
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="4" fill="var(--good)"/>' for x, y in (at(*p) for p in series["valid_loss"])
    )
    return (
        '<svg viewBox="0 0 700 230" role="img" aria-label="Loss over training steps">'
        '<path d="M40 10 V200 H690" fill="none" stroke="var(--line)"/>'
        f'{mark}<polyline points="{line}" fill="none" stroke="var(--soft)" stroke-width="1.5"/>{dots}'
        f'<g fill="var(--soft)" font-size="12"><text x="4" y="24">{top:.1f}</text><text x="20" y="204">0</text>'
        f'<text x="640" y="220">step {last:.0f}</text>'
        '<text x="360" y="24">line: training loss, dots: validation loss, bar: chosen</text></g></svg>'
    )
