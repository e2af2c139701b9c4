"""evaluate: the tuned model on the rows that the base model answered, scored alike, side by side."""

import json
from pathlib import Path
from typing import Any

from finetune.asking.compared_models import others
from finetune.asking.model_graders import add_grades, graders_of, judged
from finetune.asking.regression_sets import also
from finetune.asking.test_rows import Rows, kept_part, latency, predict
from finetune.core.disk import read_json, read_jsonl, write_csv, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import EVALUATION, GROUPS, LATENCY, MODEL, PREPARED_REPORT
from finetune.project.deployment import answering_name
from finetune.provider.connect import connect
from finetune.scoring.abstention import abstention
from finetune.scoring.gates import unmet
from finetune.scoring.tasks import Scored, by_group, pairs, report, score
from finetune.scoring.usage import saved, usage
from finetune.stages.baseline import FEW_SHOT, base_of
from finetune.stages.baseline import LATENCY as BASE_LATENCY
from finetune.stages.baseline import PREDICTIONS as BASE_PREDICTIONS

PREDICTIONS = Path("predictions/tuned.jsonl")
OTHERS = Path("predictions/others.jsonl")
CONFUSION = {"base": Path("reports/confusion_base.csv"), "tuned": Path("reports/confusion_tuned.csv")}
CLASSES = Path("reports/classes.csv")
CALIBRATION = Path("reports/calibration.csv")
PAIRS = Path("reports/pairs.csv")
BY_GROUP = Path("reports/groups.csv")
ROWS = Path("reports/rows.csv")

ROWS_SHOWN = 50  # of each kind


def run(params: Params) -> dict[str, Any]:
    """Write the tuned model's predictions, the metrics of all models, and what their plots and the page are made of."""
    record, graders = read_json(MODEL, "train"), graders_of(params)
    rows = {"base": read_jsonl(BASE_PREDICTIONS, "baseline")}
    if few := read_jsonl(FEW_SHOT, "baseline"):
        rows["few_shot"] = few
    with connect(params.provider) as connection:
        base, tuned = base_of(params), answering_name(params, record["model"])
        for name, model in others(params, record).items():
            rows[name] = predict(connection, params, model)
        rows["tuned"] = predict(connection, params, tuned)
        refuse_other_rows(rows)
        scored = {name: scores(params, answers) for name, answers in rows.items()}
        metrics = {"task": params.evaluate.task, **report(scored)}
        for name, answers in rows.items():
            metrics[name] |= usage(params, answers, name not in ("base", "few_shot"))
        add_grades(connection, params, graders, rows, metrics)
        metrics |= judged(connection, params, rows["base"], rows["tuned"])
        metrics["also"] = also(connection, params, base, tuned)

    failed = unmet(params.evaluate.require, metrics)
    metrics |= saved(metrics) | {"gates_met": int(not failed), "gates_failed": failed}
    write_jsonl(PREDICTIONS, kept_part(rows["tuned"]))
    added = [name for name in rows if name not in ("base", "few_shot", "tuned")]
    write_jsonl(OTHERS, [{"model": name, **row} for name in added for row in kept_part(rows[name])])
    write_json(LATENCY, read_json(BASE_LATENCY, "baseline") | {name: latency(rows[name]) for name in [*added, "tuned"]})
    write_plots(rows, scored)
    write_json(EVALUATION, metrics)
    return metrics


def refuse_other_rows(rows: dict[str, Rows]) -> None:
    """Raises FinetuneError where a model answered other questions than the tuned one."""
    for name, answers in rows.items():
        if [row["asked"] for row in answers] != [row["asked"] for row in rows["tuned"]]:
            raise FinetuneError(f"The predictions of {name} are of other rows.", "Make them anew: dvc repro baseline")


def scores(params: Params, rows: Rows) -> Scored:
    """A model's answers, scored by the project's task; codes are spelled out."""
    names = codes()
    expected, answered = spelled(rows, names), [row["answer"] for row in rows]
    labels = list(names.values()) or params.data.labels or sorted(set(expected))
    tops = [row.get("logprobs", ()) for row in rows]
    settings = params.evaluate
    schema = schema_of(settings.answer_schema) if settings.answer_schema else None
    scored = score(settings.task, expected, answered, labels, list(names), tops, settings.beta, schema)
    if phrase := read_json(PREPARED_REPORT, "prepare").get("abstain"):
        scored.metrics.update(abstention(expected, scored.predicted, phrase))
    return scored


def schema_of(file: str) -> dict[str, Any]:
    """A JSON Schema. Raises FinetuneError where the file holds none."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        schema = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(schema, dict):
            raise ValueError("it is no object")
        validator_for(schema).check_schema(schema)
    except (OSError, ValueError, SchemaError) as error:
        told = error.message if isinstance(error, SchemaError) else error
        raise FinetuneError(f"evaluate.schema: {file} is no JSON Schema: {told}", "Mend it, or remove it.") from error
    return schema


def write_plots(rows: dict[str, Rows], scored: dict[str, Scored]) -> None:
    """The tables behind the plots: confusion, classes, calibration, pairs of models, groups, and rows to look at."""
    expected = spelled(rows["tuned"], codes())
    for name, path in CONFUSION.items():
        cells = zip(expected, scored[name].predicted, strict=True) if scored[name].classes else ()
        write_csv(path, ["actual", "predicted"], [{"actual": a, "predicted": p} for a, p in cells])
    classes = [{"model": name, **row} for name, one in scored.items() for row in one.classes]
    write_csv(CLASSES, ["model", "class", "precision", "recall", "f1", "n"], classes)
    calibration = [{"model": name, **row} for name, one in scored.items() for row in one.calibration]
    write_csv(CALIBRATION, ["model", "confidence", "accuracy", "rows"], calibration)
    columns = ["model", "against", "n", "difference", "low", "high", "p_value", "test", "verdict"]
    write_csv(PAIRS, columns, pairs(scored))
    groups = [str(group) for group in read_jsonl(GROUPS, "prepare")]
    found = by_group(scored, groups) if groups else []
    write_csv(BY_GROUP, ["group", "model", "n", "score", "low", "high"], found)
    columns = ["kind", "asked", "expected", "base", "tuned", "base_score", "tuned_score", "confidence"]
    write_csv(ROWS, columns, telling(rows["tuned"], expected, scored["base"], scored["tuned"]))


def codes() -> dict[str, str]:
    """The class of each code, in the order of the codes."""
    known = read_json(PREPARED_REPORT, "prepare").get("codes", {})
    return {code: label for label, code in sorted(known.items(), key=lambda item: (len(item[1]), item[1]))}


def spelled(rows: Rows, names: dict[str, str]) -> list[str]:
    """What the rows expect; codes are spelled out by their `names`."""
    expected = [str(row["expected"]) for row in rows]
    return [names.get(code, code) for code in expected]


def telling(rows: Rows, expected: list[str], base: Scored, tuned: Scored) -> list[dict[str, Any]]:
    """The rows to look at: lost and won by tuning, the largest change first, and wrong, the most confident first."""
    change = [after - before for before, after in zip(base.rows, tuned.rows, strict=True)]
    sure = tuned.confidence or [0.0] * len(rows)
    kinds = {
        "lost": sorted((i for i, by in enumerate(change) if by < 0), key=lambda i: change[i]),
        "won": sorted((i for i, by in enumerate(change) if by > 0), key=lambda i: -change[i]),
        "wrong": sorted((i for i, s in enumerate(tuned.rows) if s < 1), key=lambda i: (-sure[i], tuned.rows[i])),
    }
    return [
        {
            "kind": kind,
            "asked": rows[i]["asked"],
            "expected": expected[i],
            "base": base.predicted[i],
            "tuned": tuned.predicted[i],
            "base_score": round(base.rows[i], 4),
            "tuned_score": round(tuned.rows[i], 4),
            "confidence": round(tuned.confidence[i], 4) if tuned.confidence else "",
        }
        for kind, chosen in kinds.items()
        for i in chosen[:ROWS_SHOWN]
    ]
