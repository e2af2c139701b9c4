"""The prompt of the base model: the question, and with evaluate.few_shot examples before it."""

from pathlib import Path
from typing import Any

import pytest

from finetune.core.disk import write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.paths import PREPARED
from finetune.data.questions import few_shot_examples, prompt_of, turns_of_shots


def example(question: str, answer: str) -> dict[str, Any]:
    roles = {"system": "Be brief.", "user": question, "assistant": answer}
    return {"messages": [{"role": role, "content": text} for role, text in roles.items()]}


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(PREPARED / "train.jsonl", [example(f"q{n}", answer) for n, answer in enumerate("aaabbc")])


def test_one_example_of_each_answer_comes_before_a_second_of_any() -> None:
    answers = [
        "".join(one["messages"][-1]["content"] for one in few_shot_examples(count)) for count in (0, 2, 3, 5, 99)
    ]
    assert answers == ["", "ab", "abc", "abcab", "abcaba"]


def test_examples_come_after_the_system_message_and_before_the_question() -> None:
    shots = [turn for one in few_shot_examples(1) for turn in one["messages"][1:]]
    found = prompt_of(example("what now?", "x")["messages"][:-1], shots)
    assert [(turn["role"], turn["content"]) for turn in found] == [
        ("system", "Be brief."),
        ("user", "q0"),
        ("assistant", "a"),
        ("user", "what now?"),
    ]
    assert [turn["role"] for turn in prompt_of([{"role": "user", "content": "hi"}], shots)] == [
        "user",
        "assistant",
        "user",
    ]


def test_the_system_prompts_of_examples_are_left_out_by_either_role() -> None:
    turns = [{"role": role, "content": role} for role in ("system", "developer", "user", "assistant")]
    assert [turn["role"] for turn in turns_of_shots([{"messages": turns}])] == ["user", "assistant"]


def test_examples_are_for_chat_only() -> None:
    write_jsonl(PREPARED / "train.jsonl", [{"prompt": "q", "completion": "a"}])
    with pytest.raises(FinetuneError, match="chat examples"):
        few_shot_examples(1)
