"""Records that earlier versions wrote are read in today's form."""

import json

import pytest

from finetune.core.old_records import current_evaluation, model_key

SCORES = {"f1": 0.5, "f1_low": 0.4, "f1_high": 0.6, "f1_micro": 0.55, "f1_macro": 0.45}
FORMER = {
    "task": "extract",
    "metric": "f1",
    "n": 12,
    "base": SCORES | {"f1_city": 0.1, "f1_style": 0.2, "f1_style_low": 0.1, "f1_style_high": 0.3},
    "tuned": SCORES | {"f1_city": 0.9, "f1_style": 0.8, "f1_style_low": 0.7, "f1_style_high": 0.9},
    "checkpoint_76": SCORES | {"f1_style": 0.5, "f1_style_low": 0.4, "f1_style_high": 0.6, "f1_style_errors": 2},
    "v1_0": SCORES | {"f1_style": 0.6, "f1_style_low": 0.5, "f1_style_high": 0.7},
    "lift": {
        "f1": 0.3,
        "f1_low": 0.2,
        "f1_high": 0.4,
        "p_value": 0.01,
        "verdict": "better by 0.300 f1",
        "f1_style": 0.6,
        "f1_style_low": 0.5,
        "f1_style_high": 0.7,
        "f1_style_p_value": 0.02,
    },
    "lift_over_checkpoint_76": {"f1": 0.1, "f1_low": 0.0, "f1_high": 0.2},
    "lift_over_v1_0": {"f1": 0.2, "f1_low": 0.1, "f1_high": 0.3},
    "also": {},
    "gates_met": 1,
    "gates_failed": [],
}


def test_checkpoints_compared_models_graders_and_fields_are_moved() -> None:
    before = json.dumps(FORMER)
    assert current_evaluation(FORMER) == {
        "task": "extract",
        "metric": "f1",
        "n": 12,
        "base": SCORES | {"fields": {"city": 0.1}},
        "tuned": SCORES | {"fields": {"city": 0.9}},
        "checkpoints": {"76": SCORES | {"lift": {"f1": 0.1, "f1_low": 0.0, "f1_high": 0.2}}},
        "compared": {"v1_0": SCORES | {"lift": {"f1": 0.2, "f1_low": 0.1, "f1_high": 0.3}}},
        "lift": {"f1": 0.3, "f1_low": 0.2, "f1_high": 0.4, "p_value": 0.01, "verdict": "better by 0.300 f1"},
        "graders": {
            "f1_style": {
                "base": {"score": 0.2, "low": 0.1, "high": 0.3},
                "tuned": {"score": 0.8, "low": 0.7, "high": 0.9},
                "lift": {"score": 0.6, "low": 0.5, "high": 0.7, "p_value": 0.02},
                "checkpoints": {"76": {"score": 0.5, "low": 0.4, "high": 0.6, "errors": 2}},
                "compared": {"v1_0": {"score": 0.6, "low": 0.5, "high": 0.7}},
            }
        },
        "also": {},
        "gates_met": 1,
        "gates_failed": [],
    }
    assert json.dumps(FORMER) == before


def test_an_evaluation_of_today_is_unchanged() -> None:
    today = current_evaluation(FORMER)
    assert current_evaluation(today) == today


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *((name, name) for name in ("base", "few_shot", "tuned", "checkpoints.76", "compared.v1.0", "compared.base")),
        ("checkpoint_76", "checkpoints.76"),
        ("checkpoint_x", "compared.checkpoint_x"),
        ("v1_0", "compared.v1_0"),
    ],
)
def test_former_names_of_models_are_read(name: str, key: str) -> None:
    assert model_key(name) == key
