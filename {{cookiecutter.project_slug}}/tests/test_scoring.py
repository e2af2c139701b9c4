"""Classes read out of answers, and their metrics."""

import time

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


def test_averages_of_several_classes_are_macro_and_of_two_the_second() -> None:
    expected, predicted = ["a", "a", "b", "b", "c"], ["a", "b", "b", "b", NONE]
    metrics = classification(expected, predicted, ["a", "b", "c", "no row has it"], beta=2)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 0) / 3, abs=1e-4)
    assert metrics["precision"] == pytest.approx((1 + 2 / 3 + 0) / 3, abs=1e-4)
    assert metrics["recall"] == pytest.approx((0.5 + 1 + 0) / 3, abs=1e-4)
    two = classification(["no", "no", "yes", "yes", "yes"], ["no", "yes", "yes", "no", NONE], ["no", "yes"], beta=0.5)
    assert (two["precision"], two["recall"]) == (0.5, 0.3333)
    assert two["f_beta"] == pytest.approx(1.25 * 0.5 / 3 / (0.25 * 0.5 + 1 / 3), abs=1e-4)
    assert "f_beta" not in classification(expected, predicted, ["a", "b"])


def test_one_class_is_in_the_name_of_another() -> None:
    labels = ["return", "return policy", "Sale", "sale"]
    assert label_of("return policy", labels) == "return policy"
    assert label_of("It is about the return.", labels) == "return"
    assert label_of("It is the return policy.", labels) == NONE
    assert label_of("sale", labels) == NONE


def test_ten_thousand_chatty_answers_are_read_for_five_hundred_classes_in_seconds() -> None:
    labels = [f"class {index}" for index in range(500)]
    start = time.process_time()
    found = [label_of(f"I would say class {index % 500}, because it asks for that", labels) for index in range(10_000)]
    assert time.process_time() - start < 5  # 0.5 as measured; a search for each class in each answer took 8
    assert found == labels * 20


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
