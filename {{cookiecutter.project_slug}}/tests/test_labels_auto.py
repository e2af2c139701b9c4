"""`data.labels: auto`: the classes of the answers are found, written into the report, and used by all stages."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_params import written

from finetune.core.class_labels import labels_of
from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.paths import PREPARED
from finetune.core.records.prepared import PrepareReport
from finetune.core.sections.data import Data
from finetune.scoring.prediction_scores import score_predictions
from finetune.stages import prepare
from finetune.terminal.summaries import prepare_summary

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
PROMPT = {"user": "{question}", "assistant": "{team}"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(answers: list[Any], **data: Any) -> Params:
    rows = [{"question": f"{n**5:x} {n**7:x} {n}", "team": answer} for n, answer in enumerate(answers)]
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {"file": "raw.jsonl", "split": SHARES, "prompt": PROMPT, "labels": "auto"}
    section = Data.model_validate({**values, **data})
    provider, train = SimpleNamespace(name="openai"), SimpleNamespace(base="gpt-4.1-mini-2025-04-14")
    evaluate = SimpleNamespace(task="classify", answer_schema=None, beta=None, metric=None)
    return cast("Params", SimpleNamespace(data=section, provider=provider, train=train, evaluate=evaluate))


def test_the_classes_are_written_into_the_report_and_named() -> None:
    settings = params(["配送", "billing ", "billing", "returns", "配送"] * 6)
    report = prepare.run(settings)
    assert report["labels"] == ["billing", "returns", "配送"]
    assert labels_of(settings.data, report) == ["billing", "returns", "配送"]
    assert "white_space_kept" not in report
    assert "prepare: 3 classes found: billing, returns, 配送" in prepare_summary(report, settings.data)
    assert labels_of(settings.data.model_copy(update={"labels": ["a", "b"]}), report) == ["a", "b"]


def test_spellings_of_one_class_are_warned_of() -> None:
    said: list[str] = []
    settings = params(["Billing", "billing", "caf\u00e9", "cafe\u0301", "a b", "a  b", 1, "1.0", "other"] * 6)
    assert len(prepare.run(settings, say=said.append)["labels"]) == 9
    pairs = [line for line in said if "a model learns them as two" in line]
    assert len(pairs) == 4
    assert "warning: the classes 'Billing' and 'billing' differ only in case" in pairs[1] + pairs[2]
    said.clear()
    prepare.run(params(["a", "b", "a;b", "b;a", "c|d"] * 6), say=said.append)
    assert [line for line in said if "several" in line] == [
        "warning: 'a;b', 'b;a': several classes in one answer, which a model learns as a class of their own. Keep one"
        " class a row, or write a list and set evaluate.task to extract."
    ]
    said.clear()
    prepare.run(params(["Billing", "billing"] * 20, labels=["Billing", "billing"]), say=said.append)
    assert not any("learns them" in line for line in said)


def test_a_report_without_the_classes_names_the_command_to_run() -> None:
    settings = params(["a", "b"] * 10)
    with pytest.raises(FinetuneError, match=r"dvc repro prepare"):
        labels_of(settings.data, cast("PrepareReport", {}))


def test_the_classes_found_get_codes_and_the_phrase_of_abstention_is_one_of_them() -> None:
    prompt = {**PROMPT, "system": "Answer with a code: {codes}."}
    report = prepare.run(params(["b", "a"] * 15, prompt=prompt, codes=True, abstain={"answer": "none"}))
    assert report["codes"] == {"a": "0", "b": "1", "none": "2"}
    line = json.loads((PREPARED / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line["messages"][0]["content"] == "Answer with a code: 0 = a, 1 = b, 2 = none."


def test_renamed_answers_are_the_classes() -> None:
    assert prepare.run(params([0, 1] * 10, map={"team": {0: "no", 1: "yes"}}))["labels"] == ["no", "yes"]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([f"answer {n}" for n in range(30)], "30 rows have 30 different answers"),
        ([f"answer {n}" for n in range(700)], "the first 501 rows have more than 500 different answers"),
        (["yes", "x" * 101] * 10, "10 of 20 answers are empty or longer than 100 characters"),
    ],
)
def test_answers_that_are_no_classes_are_refused_with_their_counts(answers: list[str], why: str) -> None:
    with pytest.raises(FinetuneError, match=f"data.labels is auto, but the answers are not classes: {why}"):
        prepare.run(params(answers))


def test_predictions_are_scored_by_the_classes_found() -> None:
    settings = params(["a", "b", "c"] * 10)
    report = prepare.run(settings)
    row: Any = {"asked": "?", "expected": "a ", "answer": "a", "prompt_tokens": 1, "completion_tokens": 1}
    scored = score_predictions(settings, report, [row])
    assert scored.metrics["accuracy"] == 1.0
    assert [one["class"] for one in scored.classes] == ["a", "b", "c"]


def test_classes_are_found_only_to_classify(tmp_path: Path) -> None:
    path = written(tmp_path, {"data.labels": "auto", "evaluate.task": "classify"})
    assert load_params(path).data.labels == "auto"
    for task in ("extract", "generate"):
        with pytest.raises(FinetuneError, match=rf"data\.labels is auto, but evaluate\.task is {task}"):
            load_params(written(tmp_path, {"data.labels": "auto", "evaluate.task": task}))
    with pytest.raises(FinetuneError, match=r"'data\.labels': input should be a valid list.*'delivery'"):
        load_params(written(tmp_path, {"data.labels": "delivery"}))
