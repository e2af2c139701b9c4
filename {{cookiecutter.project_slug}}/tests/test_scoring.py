"""Classes read out of answers, and their metrics."""

import pytest

from finetune.report.page import make_page
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


def test_the_page_escapes_what_people_wrote() -> None:
    metrics = classification(["billing"], ["sales"], LABELS)
    texts = ["model", "base", "job", "seed", "trained_tokens", "usd", "fingerprint", "verdict_words"]
    record = dict.fromkeys(texts, "<b>x</b>") | {"lineage": [], "chosen": {"step": 9, "why": "the last"}}
    page = make_page(
        {**record, "hyperparameters": {}},
        {"base": metrics, "tuned": metrics},
        LABELS,
        [{"asked": "<script>alert(1)</script>", "expected": "billing"}],
        {"base": ["sales"], "tuned": ["sales"]},
        "step,train_loss,train_accuracy,valid_loss,valid_accuracy\n1,0.5,0.9,,\n",
    )
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>x" not in page
    assert "no better" in page
