"""Classes read out of answers, and their metrics."""

import pytest

from finetune.report.curves import parse_result
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


RESULT = b"step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy\n1,0.5,0.9,,\n"


def test_result_files_plain_and_in_base64() -> None:
    import base64

    rows = parse_result(RESULT)
    assert rows == parse_result(base64.b64encode(RESULT))
    assert rows == [{"step": "1", "train_loss": "0.5", "train_accuracy": "0.9", "valid_loss": "", "valid_accuracy": ""}]
    assert parse_result(b"\x00 not a table") == []


def test_the_page_escapes_what_people_wrote() -> None:
    metrics = classification(["billing"], ["sales"], LABELS)
    record = dict.fromkeys(["model", "base", "job", "seed", "trained_tokens", "usd", "fingerprint"], "x")
    page = make_page(
        {**record, "hyperparameters": {}},
        {"base": metrics, "tuned": metrics},
        LABELS,
        [{"asked": "<script>alert(1)</script>", "expected": "billing"}],
        {"base": ["sales"], "tuned": ["sales"]},
        RESULT.decode(),
    )
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "no better" in page
