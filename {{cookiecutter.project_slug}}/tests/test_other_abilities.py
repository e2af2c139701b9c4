"""The verdicts on regression sets: lost only where a loss is shown; and the class that a metric is about."""

from typing import Any

import pytest

from finetune.report.model_metrics import metric_title
from finetune.report.sections.other_abilities import badge


@pytest.mark.parametrize(
    ("kept", "low", "high", "text"),
    [(1, -0.02, 0.1, "✓ kept"), (0, -0.2, 0.1, "not shown to be kept"), (0, -0.2, -0.1, "✗ lost")],
)
def test_lost_is_said_only_where_the_whole_interval_is_below_0(kept: int, low: float, high: float, text: str) -> None:
    found: Any = {"kept": kept, "low": low, "high": high}
    assert badge(found).text == text


def test_a_metric_of_one_of_two_classes_names_it() -> None:
    evaluation: Any = {"tuned": {"positive_class": "spam"}}
    assert metric_title(evaluation, "auroc") == "AUROC of “spam”"
    assert metric_title(evaluation, "accuracy") == "accuracy"
    assert metric_title({"tuned": {}}, "recall") == "recall"  # type: ignore[typeddict-item]
