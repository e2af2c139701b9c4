"""reports/report.md: the verdict, figures, cost and lineage as a comment of a pull request."""

import re
from collections.abc import Sequence

from finetune.core.records.evaluation import Evaluation
from finetune.report.cost_facts import cost_facts, usage_table
from finetune.report.grader_scores import grader_table
from finetune.report.headline import base_sentence, headline, rescued_sentence, score_sentence, unanswered_sentence
from finetune.report.lineage_facts import lineage_of
from finetune.report.model_metrics import metric_title, metrics, model_label, models, numbers
from finetune.report.number_formats import figure, signed
from finetune.report.page_tables import Table
from finetune.report.pairs import Pair, read_pairs
from finetune.report.preference_sentences import preference_sentences
from finetune.report.sections.exports import exports_view
from finetune.report.sections.training import curve_sentences
from finetune.report.stage_outputs import Results

LONGEST = 65_000  # characters: GitHub refuses comments that are slightly longer


def make_markdown(results: Results) -> str:
    """Return the report as text, the same for the same files."""
    evaluation = results.evaluation
    verdict = headline(evaluation)
    even = verdict.result == "even"
    metric = metric_title(evaluation, evaluation["metric"])
    shown = f"No difference shown in {metric}" + (
        "" if verdict.against == "the base model" else f" to {verdict.against}"
    )
    sentences = (base_sentence(evaluation), rescued_sentence(evaluation), unanswered_sentence(evaluation))
    title = shown if even else f"The tuned model is {verdict.clause} than {verdict.against}"
    parts = [
        "# Fine-tune report",
        f"**{plain(title)}.** {plain(score_sentence(evaluation))}: {plain(verdict.certainty)}.",
        *(plain(f"{one}.") for one in sentences if one),
        plain(f"{evaluation['trainings']['verdict']}.") if "trainings" in evaluation else "",
        gates(evaluation),
        metric_table(evaluation),
        pair_table(read_pairs(results.tables["pairs"])),
        plain_table(grader_table(evaluation)),
        preferences(evaluation),
        f"## Judge\n\n{plain(evaluation['judge']['verdict'])}." if "judge" in evaluation else "",
        other_abilities(evaluation),
        exports(results),
        f"## Training\n\n{plain(curves)}" if (curves := curve_sentences(results.record)) else "",
        "## Cost",
        # Without times: this file is in Git, and they differ from run to run.
        plain_table(usage_table(evaluation, {})),
        "\n".join(f"- {name}: {value}" for name, value in cost_facts(results).items()),
        "## Lineage",
        lineage_table(results),
    ]
    return cut("\n\n".join(filter(None, parts))) + "\n"


def gates(evaluation: Evaluation) -> str:
    """Return which conditions are not met, or that all are met; "" without conditions."""
    if failed := evaluation.get("gates_failed"):
        return "Conditions of `evaluate.require` that are not met:\n\n" + "\n".join(
            f"- ❌ {plain(gate)}" for gate in failed
        )
    return "✅ All conditions of `evaluate.require` are met." if evaluation.get("gates_met") else ""


def metric_table(evaluation: Evaluation) -> str:
    """Return metrics by model, the first one with its interval."""
    found, first = models(evaluation), evaluation["metric"]
    rows = []
    for metric in metrics(evaluation):
        cells = [figure(numbers(model).get(metric)) for model in found.values()]
        if metric == first:
            ends = [[figure(model[f"{metric}_{end}"]) for end in ("low", "high")] for model in found.values()]
            cells = [f"**{cell}** ({low} – {high})" for cell, (low, high) in zip(cells, ends, strict=True)]
        rows.append([plain(metric_title(evaluation, metric)), *cells])
    return markdown_table([f"{evaluation['n']:,} test rows", *(plain(model_label(name)) for name in found)], rows)


def pair_table(pairs: Sequence[Pair]) -> str:
    """Return the differences between models with their verdicts; "" without pairs."""
    rows = [
        [
            plain(pair.label),
            signed(pair.difference),
            f"{signed(pair.low)} – {signed(pair.high)}",
            f"{pair.p_value:.3g}",
            plain(pair.verdict),
        ]
        for pair in pairs
    ]
    return markdown_table(["pair", "difference", "95 % interval", "p", "verdict"], rows) if rows else ""


def preferences(evaluation: Evaluation) -> str:
    """Return how probable the preferred answers are; "" without preferences."""
    if "preferences" not in evaluation:
        return ""
    return "## Preferences\n\n" + " ".join(map(plain, preference_sentences(evaluation["preferences"])))


def other_abilities(evaluation: Evaluation) -> str:
    """Return the verdict on each regression set; "" without them."""
    sets = evaluation.get("also") or {}
    lines = [f"- {plain(name)}: {plain(found['verdict'])}" for name, found in sets.items()]
    return "\n".join(["## Other abilities\n", *lines]) if lines else ""


def exports(results: Results) -> str:
    """Return the exported formats beside the measured model; "" without them. Without speeds, as for times."""
    view = exports_view(results.evaluation, results.exports, {})
    if view is None:
        return ""
    lines = [f"- {plain(name)}: {plain(verdict)}" for name, verdict in view.verdicts.items()]
    lines += [f"- ❌ {plain(gate)}" for gate in view.gates_failed]
    return "\n\n".join(["## Exports", plain_table(view.table), "\n".join(lines)])


def lineage_table(results: Results) -> str:
    """Return the lineage of this fine-tune beside that of the one before it, where there is one."""
    now, former = lineage_of(results), results.former
    if not former:
        return markdown_table(["", "this fine-tune"], [[name, code(value)] for name, value in now.items()])
    rows = []
    for name in dict.fromkeys([*now, *former]):
        value, before = now.get(name, ""), former.get(name, "")
        rows.append([name, code(value), code(before) if before != value else "the same"])
    return markdown_table(["", "this fine-tune", f"the one before, {code(results.former_commit[:7])}"], rows)


def plain_table(table: Table | None) -> str:
    """Return a table of texts, escaped; "" without one."""
    if table is None:
        return ""
    return markdown_table([plain(cell) for cell in table.head], [[plain(cell) for cell in row] for row in table.rows])


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already. Columns of numbers are aligned to the right."""
    numeric = [all(re.match(r"[-+−$*\d–]|unknown", row[column]) for row in rows) for column in range(len(head))]
    lines = [head, ["--:" if right else "---" for right in numeric], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: object) -> str:
    """Return a text on one line, escaped so that it is no Markdown, no HTML and mentions no account."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace("@", "@\u200b")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", line)


def code(text: str) -> str:
    """Return a text as code on one line of a table."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`" if text else ""


def cut(text: str) -> str:
    """Return the text up to the last line that fits into a comment."""
    if len(text) < LONGEST:
        return text
    return text[: LONGEST - 100].rpartition("\n")[0] + "\n\nToo long for a comment: the rest is in reports/report.html."
