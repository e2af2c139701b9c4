"""The classes in answers, and their metrics."""

import pytest

from finetune.scoring.class_reading import label_of
from finetune.scoring.classify import classification, name_of_no_class
from finetune.scoring.tasks import score

LABELS = ["billing", "sales", "e-mail"]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("billing", "billing"),
        (" Billing.\n", "billing"),
        ("The team is **sales**.", "sales"),
        ("e-mail", "e-mail"),
        ("billing or sales", None),
        ("wholesales", None),
        ("", None),
    ],
)
def test_the_class_an_answer_names(answer: str, label: str) -> None:
    assert label_of(answer, LABELS) == label


def test_metrics_of_a_small_table() -> None:
    metrics = classification(["billing", "billing", "sales", "sales"], ["billing", "sales", "sales", "(none)"], LABELS)
    assert metrics["accuracy"] == 0.5
    assert metrics["weighted_f1"] == pytest.approx((2 * 2 / 3 + 2 * 0.5) / 4, abs=1e-4)
    assert metrics["classes"][0] == {"class": "billing", "precision": 1.0, "recall": 0.5, "f1": 0.6667, "n": 2}


def test_averages_are_macro_for_several_classes_and_the_second_class_for_two() -> None:
    expected, predicted = ["a", "a", "b", "b", "c"], ["a", "b", "b", "b", "(none)"]
    metrics = classification(expected, predicted, ["a", "b", "c", "no row has it"], beta=2)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 0) / 3, abs=1e-4)
    assert metrics["precision"] == pytest.approx((1 + 2 / 3 + 0) / 3, abs=1e-4)
    assert metrics["recall"] == pytest.approx((0.5 + 1 + 0) / 3, abs=1e-4)
    two = classification(
        ["no", "no", "yes", "yes", "yes"], ["no", "yes", "yes", "no", "(none)"], ["no", "yes"], beta=0.5
    )
    assert (two["precision"], two["recall"]) == (0.5, 0.3333)
    assert two["f_beta"] == pytest.approx(1.25 * 0.5 / 3 / (0.25 * 0.5 + 1 / 3), abs=1e-4)
    assert "f_beta" not in classification(expected, predicted, ["a", "b"])


def test_a_class_may_be_part_of_another_class() -> None:
    labels = ["return", "return policy", "Sale", "sale"]
    assert label_of("return policy", labels) == "return policy"
    assert label_of("It is about the return.", labels) == "return"
    assert label_of("It is the return policy.", labels) == "return policy"
    assert label_of("sale", labels) == "sale"
    assert label_of("Sale.", labels) == "Sale"
    assert label_of("SALE", labels) is None
    assert label_of("a sale or a Sale", labels) is None


def test_classes_are_found_in_verbose_answers_among_five_hundred() -> None:
    labels = [f"class {index}" for index in range(500)]
    found = [label_of(f"I would say class {index}, because it asks for that", labels) for index in range(500)]
    assert found == labels


def test_an_answer_that_names_no_class_is_not_the_class_none() -> None:
    """A class may have the name that we use for "no class"."""
    labels = ["billing", "(none)"]
    assert name_of_no_class(labels) == "((none))"
    scored = score("classify", ["(none)", "(none)", "billing"], ["I cannot say", "(none)", "billing"], labels)
    assert scored.scores == [0.0, 1.0, 1.0]
    assert scored.predicted == ["((none))", "(none)", "billing"]


def test_a_field_called_like_a_metric_replaces_none() -> None:
    rows = ['{"micro": "a", "macro": "b"}'] * 4
    scored = score("extract", rows, ['{"micro": "a", "macro": "x"}'] * 4)
    assert scored.metrics["fields"] == {"macro": 0.0, "micro": 1.0}
    assert scored.metrics["f1_micro"] == 0.5


def test_the_positive_class_is_named_where_there_are_two() -> None:
    assert score("classify", ["spam", "ham"], ["spam", "ham"], ["ham", "spam"]).metrics["positive_class"] == "spam"
    assert "positive_class" not in score("classify", ["a", "b", "c"], ["a", "b", "c"]).metrics
