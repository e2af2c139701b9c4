"""Classes read out of answers, and their metrics."""

import pytest

from finetune.scoring.classify import NONE, classification, label_of

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


def test_chatty_answers_are_read_for_five_hundred_classes() -> None:
    labels = [f"class {index}" for index in range(500)]
    found = [label_of(f"I would say class {index}, because it asks for that", labels) for index in range(500)]
    assert found == labels
