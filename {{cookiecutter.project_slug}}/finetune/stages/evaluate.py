"""evaluate: the tuned model on the rows that the base model answered, scored alike, side by side."""

from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import MODEL, PREPARED_REPORT
from finetune.provider.connect import connect
from finetune.record import read_json, read_jsonl, write_csv, write_json, write_jsonl
from finetune.scoring.classify import label_of
from finetune.scoring.gates import unmet
from finetune.scoring.tasks import Scored, report, score
from finetune.stages.baseline import FEW_SHOT, predict
from finetune.stages.baseline import PREDICTIONS as BASE_PREDICTIONS
from finetune.stages.deploy import answering_name

PREDICTIONS = Path("predictions/tuned.jsonl")
REPORT = Path("reports/evaluation.json")
CONFUSION = {"base": Path("reports/confusion_base.csv"), "tuned": Path("reports/confusion_tuned.csv")}
CLASSES = Path("reports/classes.csv")

Rows = list[dict[str, Any]]


def run(params: Params) -> dict[str, Any]:
    """Write the tuned model's predictions, the metrics of all models and their plots."""
    record = read_json(MODEL, "train")
    rows = {"base": read_jsonl(BASE_PREDICTIONS, "baseline")}
    if few := read_jsonl(FEW_SHOT, "baseline"):
        rows["few_shot"] = few
    with connect(params.provider) as connection:
        rows["tuned"] = predict(connection, params, answering_name(params, record["model"]))
    for name, others in rows.items():
        if [row["asked"] for row in others] != [row["asked"] for row in rows["tuned"]]:
            raise FinetuneError(f"The predictions of {name} are of other rows.", "Make them anew: dvc repro baseline")
    write_jsonl(PREDICTIONS, rows["tuned"])

    scored = {name: scores(params, answers) for name, answers in rows.items()}
    metrics = report(scored)
    failed = unmet(params.evaluate.require, metrics)
    metrics |= {"task": params.evaluate.task, "gates_met": int(not failed), "gates_failed": failed}
    names = codes()
    expected = [names.get(row["expected"], row["expected"]) for row in rows["tuned"]]
    for name, path in CONFUSION.items():
        pairs = zip(expected, scored[name].predicted, strict=True) if scored[name].classes else ()
        write_csv(path, ["actual", "predicted"], [{"actual": a, "predicted": p} for a, p in pairs])
    classes = [{"model": name, **row} for name, one in scored.items() for row in one.classes]
    write_csv(CLASSES, ["model", "class", "precision", "recall", "f1", "n"], classes)
    write_json(REPORT, metrics)
    return metrics


def scores(params: Params, rows: Rows) -> Scored:
    """A model's answers, scored by the project's task; codes are spelled out."""
    names = codes()
    answers = list(names) or params.data.labels or sorted({row["expected"] for row in rows})
    expected, answered = ([row[key] for row in rows] for key in ("expected", "answer"))
    if names:
        expected = [names.get(code, code) for code in expected]
        answered = [names.get(label_of(answer, answers), answer) for answer in answered]
    return score(params.evaluate.task, expected, answered, [names.get(answer, answer) for answer in answers])


def codes() -> dict[str, str]:
    """The class of each code."""
    return {code: label for label, code in read_json(PREPARED_REPORT, "prepare").get("codes", {}).items()}
