"""Which change of the questions needs no model."""

from typing import Any

import pytest

from finetune.asking.committed_answers import asks_less

BEFORE: dict[str, Any] = {
    "provider": {"name": "local"},
    "base": "b",
    "seed": 1,
    "max_tokens": 5,
    "temperature": 0.0,
    "stop": [],
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 20,
    "completion": None,
    "few_shot": [{"messages": []}],
    "compare": ["checkpoints", "v1"],
    "also": {"general": {"max_tokens": 8, "examples": [1]}, "tone": {"max_tokens": 9, "examples": [2]}},
    "graders": {"kind": {"type": "score_model"}},
    "judge": {"model": "m", "instructions": None},
}


@pytest.mark.parametrize(
    "change",
    [
        {"few_shot": []},
        {"compare": ["v1"]},
        {"compare": []},
        {"also": {"tone": {"max_tokens": 9, "examples": [2]}}},
        {"graders": {}},
        {"judge": None},
        {"judge": None, "graders": {}, "also": {}, "compare": [], "few_shot": []},
    ],
)
def test_to_ask_less_needs_no_model(change: dict[str, Any]) -> None:
    now: Any = {**BEFORE, **change}
    before: Any = BEFORE
    assert asks_less(now, before)
    assert not asks_less(before, now)


@pytest.mark.parametrize(
    "change",
    [
        {},  # a wish to ask again
        {"max_tokens": 6, "judge": None},
        {"stop": ["."], "judge": None},
        {"frequency_penalty": 0.5, "judge": None},
        {"base": "c", "judge": None},
        {"compare": ["v2"]},
        {"also": {"tone": {"max_tokens": 10, "examples": [2]}}},
        {"graders": {"kind": {"type": "score_model", "model": "n"}}},
        {"judge": {"model": "n", "instructions": None}},
        {"few_shot": [{"messages": [1]}]},
        {"judge": None, "compare": ["checkpoints", "v1", "v2"]},
    ],
)
def test_to_ask_something_else_needs_a_model(change: dict[str, Any]) -> None:
    now: Any = {**BEFORE, **change}
    before: Any = BEFORE
    assert not asks_less(now, before)
