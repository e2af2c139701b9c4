"""The report for a pull request: the verdict, figures, cost and lineage in Markdown."""

import re
from collections.abc import Sequence
from typing import Any

from finetune.report.facts import (
    Results,
    called,
    costs,
    figure,
    headline,
    lineage,
    metrics,
    models,
    pair_in_words,
    scores,
    signed,
    usage,
)

LONGEST = 65_000  # characters: a comment on GitHub takes few more


def make_markdown(results: Results) -> str:
    """The report as a text, the same for the same files."""
    evaluation = results.evaluation
    word, clause, sure = headline(evaluation)
    title = f"The tuned model is {clause} than the base model" if word != "even" else "No difference shown"
    told = ["# Fine-tune report", f"**{plain(title)}.** {plain(scores(evaluation))}: {plain(sure)}."]
    if failed := evaluation.get("gates_failed"):
        told.append("Not good enough:\n\n" + "\n".join(f"- ❌ {plain(gate)}" for gate in failed))
    elif evaluation.get("gates_met"):
        told.append("✅ Meets what `evaluate.require` asks for.")
    told.append(all_metrics(results))
    if pairs := results.tables["pairs"]:
        rows = [
            [
                f"{plain(called(row['model']))} − {plain(called(row['against']))}",
                signed(float(row["difference"])),
                f"{signed(float(row['low']))} – {signed(float(row['high']))}",
                f"{float(row['p_value']):.3g}",
                plain(pair_in_words(row)),
            ]
            for row in pairs
        ]
        told.append(table(["pair", "difference", "95 % interval", "p", "verdict"], rows))
    if also := evaluation.get("also"):
        told += ["## Other abilities", "\n".join(f"- {plain(k)}: {plain(one['verdict'])}" for k, one in also.items())]
    told.append("## Cost")
    # Without the times: it is in Git, and they are others wherever it is made anew.
    if found := usage(results._replace(latency={})):
        told.append(table(found[0], found[1:]))
    told.append("\n".join(f"- {name}: {value}" for name, value in costs(results).items()))
    told += ["## Lineage", origin(results)]
    return cut("\n\n".join(told)) + "\n"


def all_metrics(results: Results) -> str:
    """Metrics by model; the first with its interval."""
    evaluation, names = results.evaluation, models(results.evaluation)
    first = evaluation["metric"]
    rows = []
    for key in metrics(evaluation):
        cells = [figure(evaluation[name].get(key)) for name in names]
        if key == first:
            ends = [[figure(evaluation[name][f"{key}_{end}"]) for end in ("low", "high")] for name in names]
            cells = [f"**{cell}** ({low} – {high})" for cell, (low, high) in zip(cells, ends, strict=True)]
        rows.append([plain(called(key)), *cells])
    return table([f"{evaluation['n']:,} test rows", *(plain(called(name)) for name in names)], rows)


def origin(results: Results) -> str:
    """Where the model comes from; beside it, what was otherwise in the fine-tune before it."""
    now = lineage(results.record, results.files, results.prepared)
    now["trained on top of commit"] = results.commit or "none yet"
    if not results.former:
        return table(["", "this fine-tune"], [[name, code(value)] for name, value in now.items()])
    rows = []
    for name in dict.fromkeys([*now, *results.former]):
        value, before = now.get(name, ""), results.former.get(name, "")
        rows.append([name, code(value), code(before) if before != value else "the same"])
    return table(["", "this fine-tune", f"the one before, {code(results.former_commit[:7])}"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table whose columns but the first stand to the right where they are numbers."""
    numeric = [all(re.match(r"[-+−$*\d–]|unknown", str(row[i])) for row in rows) for i in range(len(head))]
    lines = [head, ["--:" if right else "---" for right in numeric], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def plain(text: Any) -> str:
    """A text on one line that is no Markdown, no HTML and mentions nobody."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace("@", "@\u200b")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def code(text: str) -> str:
    """A text as it is, on one line of a table."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`" if text else ""


def cut(text: str) -> str:
    """The text up to the last line that fits."""
    if len(text) < LONGEST:
        return text
    return text[: LONGEST - 100].rpartition("\n")[0] + "\n\nToo long for a comment: the rest is in reports/report.html."
