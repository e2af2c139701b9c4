"""Where the models err: which classes they take for others, how sure they are of it, and the rows to read."""

from collections.abc import Sequence
from html import escape

from finetune.report import charts
from finetune.report.charts import TONES, Mark, axis_of, legend, strip
from finetune.report.confusion import confusion, worst
from finetune.report.facts import Results, Row, by_model, figure, number, percent
from finetune.report.html import table

FIRST = 6  # rows of a kind that are shown before one asks for more
LONGEST = 700  # characters of a text on the page
KINDS = {
    "lost": ("Lost: the base model was right, or better", "losses"),
    "won": ("Won: the tuned model is right, or better", "wins"),
    "wrong": ("The tuned model's mistakes, the most confident first", ""),
}


def confusions(results: Results) -> str:
    """Truth by prediction, of base and tuned side by side."""
    pairs = {model: predicted(results, model) for model in TONES}
    if not pairs["tuned"]:
        return ""
    names = sorted({actual for actual, _ in pairs["tuned"]})
    names = list(by_model(results.tables["classes"], "class")) or names
    labels = worst(pairs["tuned"], names)
    hidden = len(names) - len(labels)
    note = f"The {len(labels)} classes with the most errors; {hidden} others are left out. " if hidden else ""
    shown = "".join(
        f"<figure><h3>{title.capitalize()}</h3>{confusion(pairs[model], labels, names)}</figure>"
        for model, title in TONES.items()
        if pairs[model]
    )
    return (
        f'<p class="soft">{note}Lines are the right classes, columns what the model said.</p>'
        f'<div class="{"beside" if len(labels) <= 9 else ""}">{shown}</div>'
    )


def predicted(results: Results, model: str) -> list[tuple[str, str]]:
    """Of each row the right class and the model's."""
    return [(row["actual"], row["predicted"]) for row in results.tables[f"confusion_{model}"]]


def classes(results: Results) -> str:
    """F1 of each class before and after, and precision and recall after."""
    found = by_model([row for row in results.tables["classes"] if row["model"] in TONES], "class")
    if not found:
        return ""
    labels = worst(predicted(results, "tuned"), list(found))
    axis = [0.0, 0.25, 0.5, 0.75, 1.0]
    body = []
    for label in labels:
        one = found[label]
        marks = [Mark(model, float(one[model]["f1"])) for model in TONES if model in one]
        f1 = [figure(number(one.get(model, {}).get("f1"))) for model in TONES]
        tuned = [figure(number(one.get("tuned", {}).get(key))) for key in ("precision", "recall")]
        body.append([label, strip(axis, marks), *f1, *tuned, one.get("tuned", {}).get("n", "")])
    few = len(labels) < len(found)
    note = f'<p class="soft">The {len(labels)} classes with the most errors, of {len(found)}.</p>' if few else ""
    columns = ["", axis_of(axis), "F1, base", "F1, tuned", "precision", "recall", "rows"]
    return note + legend(TONES) + table(columns, body)


def calibration(results: Results) -> str:
    bins = {
        model: [
            (float(row["confidence"]), float(row["accuracy"]), float(row["rows"]))
            for row in results.tables["calibration"]
            if row["model"] == model and number(row["accuracy"]) is not None
        ]
        for model in TONES
    }
    if not any(bins.values()):
        return ""
    return (
        f'<div class="beside"><figure>{charts.calibration(bins)}</figure>'
        "<div><p>How often answers are right, by how sure the model was of them. On the dashed line confidence is what"
        " it says; below it, the model is too sure of itself. Larger dots are more rows.</p>"
        f"{legend({model: TONES[model] for model in TONES if bins[model]})}</div></div>"
    )


def rows_to_look_at(results: Results) -> str:
    """The rows that tuning lost and won, and the tuned model's mistakes."""
    told = []
    for kind, (title, count) in KINDS.items():
        found = [row for row in results.tables["rows"] if row["kind"] == kind]
        if not found:
            continue
        total = results.evaluation["lift"].get(count, len(found))
        note = f"{total:,} of {results.evaluation['n']:,} rows" if count else f"{len(found):,} rows"
        note += f"; the first {len(found)} are here" if total > len(found) else ""
        more = found[FIRST:]
        told.append(
            f'<div class="kind"><h3>{title}</h3><p class="soft">{note}</p>{cards(found[:FIRST])}'
            + (f"<details><summary>{len(more)} more</summary>{cards(more)}</details>" if more else "")
            + "</div>"
        )
    return "".join(told)


def cards(rows: Sequence[Row]) -> str:
    """Each row with its question, what was expected and what was answered."""

    def answer(row: Row, model: str) -> str:
        score = number(row[f"{model}_score"])
        mark = {1.0: '<span class="good">✓</span>', 0.0: '<span class="bad">✗</span>', None: ""}.get(
            score, f'<span class="soft">{score or 0:.2f}</span>'
        )
        sure = number(row["confidence"]) if model == "tuned" else None
        told = f' <span class="soft">{percent(sure)} sure</span>' if sure is not None else ""
        return f"<dt>{model}</dt><dd>{mark} {escape(shortened(row[model]))}{told}</dd>"

    return "".join(
        [
            '<ol class="rows">',
            *(
                f"<li><p>{escape(shortened(row['asked']))}</p><dl><dt>expected</dt>"
                f"<dd>{escape(shortened(row['expected']))}</dd>{answer(row, 'base')}{answer(row, 'tuned')}</dl></li>"
                for row in rows
            ),
            "</ol>",
        ]
    )


def shortened(text: str) -> str:
    """The beginning and the end of a long text."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST * 2 // 3]} […] {text[-LONGEST // 3 :]}"
