"""evaluate: the tuned model on the rows that the base model answered, scored alike, side by side."""

from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import CURVES, MODEL, PREPARED_REPORT
from finetune.provider.connect import connect
from finetune.record import read_json, read_jsonl, write_csv, write_json, write_jsonl, write_text
from finetune.report.page import make_page
from finetune.scoring.classify import classification, label_of
from finetune.stages.baseline import PREDICTIONS as BASE_PREDICTIONS
from finetune.stages.baseline import predict
from finetune.stages.deploy import answering_name

PREDICTIONS = Path("predictions/tuned.jsonl")
REPORT = Path("reports/evaluation.json")
CONFUSION = {"base": Path("reports/confusion_base.csv"), "tuned": Path("reports/confusion_tuned.csv")}
CLASSES = Path("reports/classes.csv")
PAGE = Path("reports/report.html")


def run(params: Params) -> dict[str, Any]:
    """Write the tuned model's predictions, the metrics of both models, their plots and the report page."""
    record = read_json(MODEL, "train")
    base_rows = read_jsonl(BASE_PREDICTIONS, "baseline")
    with connect(params.provider) as connection:
        tuned_rows = predict(connection, params, answering_name(params, record["model"]))
    if [row["asked"] for row in base_rows] != [row["asked"] for row in tuned_rows]:
        raise FinetuneError(
            "The base model's predictions are of other rows.", "Make them anew with: dvc repro baseline"
        )
    write_jsonl(PREDICTIONS, tuned_rows)

    expected, guesses_of_tuned, labels = labelled(params, tuned_rows)
    predicted = {"base": labelled(params, base_rows)[1], "tuned": guesses_of_tuned}
    metrics: dict[str, Any] = {name: classification(expected, guesses, labels) for name, guesses in predicted.items()}
    for name, guesses in predicted.items():
        pairs = [{"actual": a, "predicted": p} for a, p in zip(expected, guesses, strict=True)]
        write_csv(CONFUSION[name], ["actual", "predicted"], pairs)
    classes = [{"model": name, **row} for name in predicted for row in metrics[name]["classes"]]
    write_csv(CLASSES, ["model", "class", "precision", "recall", "f1", "n"], classes)
    write_text(PAGE, make_page(record, metrics, labels, tuned_rows, predicted, CURVES.read_text(encoding="utf-8")))
    report = {**metrics, "n": len(expected)}
    write_json(REPORT, report)
    return report


def labelled(params: Params, rows: list[dict[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """The class that each row expects, the one that its answer names, and all classes; codes are spelled out."""
    names = {code: label for label, code in read_json(PREPARED_REPORT, "prepare").get("codes", {}).items()}
    answers = list(names) or params.data.labels or sorted({row["expected"] for row in rows})
    expected = [names.get(row["expected"], row["expected"]) for row in rows]
    predicted = [names.get(label := label_of(row["answer"], answers), label) for row in rows]
    return expected, predicted, [names.get(answer, answer) for answer in answers]
