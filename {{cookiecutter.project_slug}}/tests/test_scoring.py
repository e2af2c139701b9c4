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
