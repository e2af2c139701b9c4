"""One self-contained HTML page: was the fine-tune worth it, what did it cost, where does it err, where is it from."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from finetune.report import charts
from finetune.report.charts import TONES, Mark, axis_of, legend, strip, ticks, tone
from finetune.report.facts import (
    Results,
    Row,
    by_model,
    called,
    costs,
    figure,
    headline,
    lineage,
    metrics,
    models,
    number,
    pair_in_words,
    scores,
    signed,
    usage,
)
from finetune.report.html import Html, head, table
from finetune.report.mistakes import calibration, classes, confusions, rows_to_look_at
from finetune.report.training_curves import points

IN_TABLES = 3  # steps of an axis at most: its figures stand beside each other on a narrow screen too


def make_page(results: Results) -> str:
    """The page as a text, the same for the same files; what has no figures has no section."""
    parts = {
        "Comparison": comparison(results),
        "Judge": judge(results.evaluation),
        "Groups": groups(results),
        "Training": training(results),
        "Confusion": confusions(results),
        "Classes": classes(results),
        "Calibration": calibration(results),
        "Rows": rows_to_look_at(results),
        "Other abilities": abilities(results.evaluation),
        "Cost": cost(results),
        "Lineage": origin(results),
    }
    parts = {name: inner for name, inner in parts.items() if inner}
    links = "".join(f'<a href="#{anchor(name)}">{name}</a>' for name in parts)
    return "\n".join(
        [
            head("Fine-tune report"),
            f"<header>{verdict(results.evaluation)}</header><nav>{links}</nav><main>",
            *(f'<section id="{anchor(name)}"><h2>{name}</h2>{inner}</section>' for name, inner in parts.items()),
            "</main></html>\n",
        ]
    )


def anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def verdict(evaluation: Mapping[str, Any]) -> str:
    """The answer first: better or not, by how much, how sure, and whether that is enough."""
    word, clause, sure = headline(evaluation)
    colour = {"better": "good", "worse": "bad"}.get(word, "")
    title = (
        f'The tuned model is <em class="{colour}">{escape(clause)}</em> than the base model'
        if colour
        else "No difference shown between the tuned model and the base model"
    )
    told = [f"<h1>{title}</h1>", f'<p class="soft">{escape(scores(evaluation))}: {escape(sure)}.</p>']
    if failed := evaluation.get("gates_failed"):
        missed = "".join(f"<li>✗ {escape(str(gate))}</li>" for gate in failed)
        told.append(f'<ul class="gates bad">{missed}</ul>')
    elif evaluation.get("gates_met"):
        told.append('<p class="gates good">✓ Meets what evaluate.require asks for</p>')
    return "".join(told)


def comparison(results: Results) -> str:
    """The first metric of each model with its interval, the pairs, and all other metrics."""
    evaluation, name = results.evaluation, results.evaluation["metric"]
    found = {model: evaluation[model] for model in models(evaluation)}
    ends = [(one[name], one[f"{name}_low"], one[f"{name}_high"]) for one in found.values()]
    axis = ticks(min(low for _, low, _ in ends), max(high for *_, high in ends), IN_TABLES)
    forest = [
        [called(model), strip(axis, [Mark(tone(model), *end)]), figure(end[0]), f"{figure(end[1])} – {figure(end[2])}"]
        for model, end in zip(found, ends, strict=True)
    ]
    told: list[str] = [table([f"{evaluation['n']:,} test rows", axis_of(axis), called(name), "95 % interval"], forest)]
    if pairs := results.tables["pairs"]:
        told.append(f"<h3>Pairs, on the same rows</h3>{pairs_table(pairs)}")
    if others := metrics(evaluation)[1:]:
        body = [[called(key), *(figure(one.get(key)) for one in found.values())] for key in others]
        told.append(f"<h3>Other metrics</h3>{table(['', *map(called, found)], body)}")
    if signature := evaluation["tuned"].get("signature"):
        told.append(f'<p class="soft">sacrebleu: {escape(signature)}</p>')
    return "".join(told)


def pairs_table(pairs: Sequence[Row]) -> str:
    """What tuned is better by than each other model; in words where that is not settled."""
    ends = [[float(row[key]) for key in ("difference", "low", "high")] for row in pairs]
    axis = ticks(min(0.0, *(end[1] for end in ends)), max(0.0, *(end[2] for end in ends)), IN_TABLES)
    names = [f"{called(row['model'])} − {called(row['against'])}" for row in pairs]
    body = [
        [
            name,
            strip(axis, [Mark(tone(row["model"]), *end)], zero=True),
            signed(end[0]),
            f"{signed(end[1])} – {signed(end[2])}",
            f"{float(row['p_value']):.3g}",
        ]
        for name, row, end in zip(names, pairs, ends, strict=True)
    ]
    told = {name: pair_in_words(row) for name, row in zip(names, pairs, strict=True)}
    open_ones = "".join(
        f'<p class="soft">{escape(name)}: {escape(words)}.</p>'
        for name, words in told.items()
        if not words.startswith(("better", "worse"))
    )
    return table(["", axis_of(axis), "difference", "95 % interval", "p"], body) + open_ones


def judge(evaluation: Mapping[str, Any]) -> str:
    found = evaluation.get("judge")
    if not found:
        return ""
    counts = {kind: found[key] for kind, key in (("won", "wins"), ("tied", "ties"), ("lost", "losses"))}
    bar = "".join(f'<i class="{kind}" style="flex: {count}"></i>' for kind, count in counts.items() if count)
    return (
        f'<div class="share" aria-hidden="true">{bar}</div>'
        f"<p>The tuned answer won {counts['won']:,} times, tied {counts['tied']:,} and lost {counts['lost']:,}"
        f" of {found['n']:,}: {escape(str(found['verdict']))}.</p>"
        f'<p class="soft">Each pair was asked in both orders; {found["flipped"]:,} times the judge changed its mind'
        f" with the order. p&nbsp;=&nbsp;{found['p_value']:.3g}.</p>"
    )


def groups(results: Results) -> str:
    """The first metric of base and tuned in each group."""
    rows = [row for row in results.tables["groups"] if row["model"] in TONES]
    if not rows:
        return ""
    axis = ticks(min(float(row["low"]) for row in rows), max(float(row["high"]) for row in rows), IN_TABLES)
    body = []
    for group, found in by_model(rows, "group").items():
        marks = [Mark(model, *(float(found[model][key]) for key in ("score", "low", "high"))) for model in found]
        cells = [figure(number(found.get(model, {}).get("score"))) for model in TONES]
        body.append([group, strip(axis, marks), *cells, next(iter(found.values()))["n"]])
    return legend(TONES) + table(["", axis_of(axis), "base", "tuned", "rows"], body)


def training(results: Results) -> str:
    """The curves of loss and token accuracy, the chosen checkpoint, and what they say."""
    record, rows = results.record, results.tables["training"]
    told = "".join(f"<p>{escape(str(words))}</p>" for words in [record.get("verdict_words")] if words)
    chosen = record.get("chosen", {})
    figures = []
    for name, column in (("Loss", "loss"), ("Token accuracy", "accuracy")):
        train, valid = points(rows, f"train_{column}"), points(rows, f"valid_{column}")
        if charts.finite(train):
            drawn = charts.over_steps(name, train, valid, chosen.get("step"))
            figures.append(f"<figure><h3>{name}</h3>{drawn}</figure>")
    if not figures:
        return told
    tones = {"base": "training, with its running mean", "tuned": "validation"}
    if not any(points(rows, "valid_loss")):
        del tones["tuned"]
    return f'{told}{legend(tones)}<div class="beside">{"".join(figures)}</div>'


def abilities(evaluation: Mapping[str, Any]) -> str:
    """What was asked beside the test rows, to see what tuning forgot."""
    also = evaluation.get("also")
    if not also:
        return ""
    ends = [[float(one[key]) for key in ("lift", "low", "high")] for one in also.values()]
    axis = ticks(min(0.0, *(end[1] for end in ends)), max(0.0, *(end[2] for end in ends)), IN_TABLES)
    body = []
    for (name, one), end in zip(also.items(), ends, strict=True):
        kept = Html('<span class="good">✓ kept</span>' if one["kept"] else '<span class="bad">✗ lost</span>')
        base, tuned = figure(one["base"]), figure(one["tuned"])
        shown = strip(axis, [Mark("tuned", *end)], zero=True)
        body.append([name, called(one["metric"]), shown, base, tuned, signed(end[0]), one["margin"], kept, one["n"]])
    columns = ["", "metric", axis_of(axis), "base", "tuned", "difference", "margin", "", "rows"]
    words = "".join(f'<p class="soft">{escape(k)}: {escape(str(one["verdict"]))}.</p>' for k, one in also.items())
    return table(columns, body) + words


def cost(results: Results) -> str:
    """Tokens, dollars and time of a call, and what the training took."""
    found = usage(results)
    return (table(found[0], found[1:]) if found else "") + facts(costs(results))


def origin(results: Results) -> str:
    told = lineage(results.record, results.files, results.prepared)
    return facts(told | {"trained on top of commit": results.commit or "none yet"})


def facts(told: Mapping[str, str]) -> str:
    return f'<dl class="facts">{"".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in told.items())}</dl>'
