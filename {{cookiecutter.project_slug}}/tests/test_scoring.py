"""Classes read out of answers, and their metrics."""

import pytest

from finetune.report.page import make_page
from finetune.scoring.classify import NONE, classification, label_of
from finetune.scoring.tasks import Task, report, score

LABELS = ["billing", "sales", "e-mail"]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("billing", "billing"),
        (" Billing.\n", "billing"),
        ("The team is **sales**.", "sales"),
        ("e-mail", "e-mail"),
        ("billing or sales", NONE),
        ("wholesales", NONE),
        ("", NONE),
    ],
)
def test_the_class_an_answer_names(answer: str, label: str) -> None:
    assert label_of(answer, LABELS) == label


def test_metrics_of_a_small_table() -> None:
    metrics = classification(["billing", "billing", "sales", "sales"], ["billing", "sales", "sales", NONE], LABELS)
    assert metrics["accuracy"] == 0.5
    assert metrics["weighted_f1"] == pytest.approx((2 * 2 / 3 + 2 * 0.5) / 4, abs=1e-4)
    assert metrics["classes"][0] == {"class": "billing", "precision": 1.0, "recall": 0.5, "f1": 0.6667, "n": 2}


def page_of(task: Task, expected: list[str], base: list[str], tuned: list[str], asked: str = "x") -> str:
    labels = sorted(set(expected))
    models = {name: score(task, expected, answers, labels) for name, answers in (("base", base), ("tuned", tuned))}
    metrics = {**report(models), "gates_failed": [], "task": task}
    texts = ["model", "base", "job", "seed", "trained_tokens", "usd", "fingerprint", "verdict_words"]
    record = dict.fromkeys(texts, "<b>x</b>") | {"lineage": [], "chosen": {"step": 1, "why": "the last"}}
    curves = "step,train_loss,train_accuracy,valid_loss,valid_accuracy\n1,0.5,0.9,,\n"
    return make_page({**record, "hyperparameters": {}}, metrics, expected, [asked] * len(expected), models, curves)


def test_the_page_escapes_what_people_wrote() -> None:
    page = page_of("classify", ["billing"], ["sales"], ["sales"], "<script>alert(1)</script>")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>x" not in page
    assert "no difference shown" in page


def test_the_page_lists_what_was_won_and_what_was_lost() -> None:
    page = page_of("classify", ["a"] * 10, ["b"] * 9 + ["a"], ["a"] * 9 + ["b"])
    assert "right and the tuned one does not: 1 of 10" in page
    assert "gets right and the base one did not: 9 of 10" in page
    assert "better by 80.0 points" in page
    assert "Confusion" not in page_of("generate", ["hello there"], ["no"], ["hello there"])
