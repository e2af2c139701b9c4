"""Rows of a regression set that are not independent: those of one group, of one conversation, or asked twice."""

from typing import Any

from finetune.core.records.answers import RegressionPrediction
from finetune.core.sections.evaluate import Also
from finetune.data.regression_groups import groups_of_examples
from finetune.scoring.regression_sets import score_regression_sets


def talk(*texts: str, system: str = "", **cells: Any) -> dict[str, Any]:
    """Return a conversation that begins with the user, with further keys."""
    turns = [{"role": "system", "content": system}] if system else []
    roles = ["user", "assistant"]
    return {"messages": [*turns, *({"role": roles[n % 2], "content": text} for n, text in enumerate(texts))], **cells}


def test_examples_with_one_cell_are_a_group() -> None:
    examples = [talk("a", "x", group="鈴木"), talk("b", "x", group=" 鈴木"), talk("c", "x", group=7), talk("d", "x")]
    assert groups_of_examples(examples, "group") == [0, 0, 1, 2]
    nested = [talk("a", "x", meta={"customer": 3}), talk("b", "x", meta={"customer": 3})]
    assert groups_of_examples(nested, "meta.customer") == [0, 0]
    assert groups_of_examples(examples, "customer") == [0, 1, 2, 3]


def test_the_turns_of_a_conversation_are_a_group() -> None:
    examples = [
        talk("hi", "hello", system="s"),
        talk("other", "x", system="s"),
        talk("hi", "hello", "where?", "there", system="s"),
        talk("hi", "hello", "where?", "there", "when?", "now", system="s"),
    ]
    assert groups_of_examples(examples, "group") == [0, 1, 0, 0]


def test_the_same_question_is_a_group_and_the_same_first_words_are_none() -> None:
    examples = [talk("a", "x"), talk("a", "y"), talk("hi", "yes?", "b", "x"), talk("hi", "yes?", "c", "x")]
    assert groups_of_examples(examples, "group") == [0, 0, 1, 2]


def answers(rights: list[bool]) -> list[RegressionPrediction]:
    return [
        {
            "set": "general",
            "asked": str(number),
            "expected": "yes",
            "answer": "yes" if right else "no",
            "prompt_tokens": 1,
            "completion_tokens": 1,
        }
        for number, right in enumerate(rights)
    ]


def test_a_set_of_few_groups_is_not_kept_by_its_many_rows() -> None:
    """One lost conversation of ten rows is one loss, of which ten conversations cannot say that it is rare."""
    sets = {"general": Also(file="data/also/general.jsonl", task="classify", margin=0.1)}
    base, tuned = answers([True] * 200), answers([number >= 10 for number in range(200)])
    rows = score_regression_sets(sets, base, tuned)["general"]
    groups = score_regression_sets(sets, base, tuned, {"general": [number // 10 for number in range(200)]})["general"]
    assert (rows["kept"], groups["kept"]) == (1, 0)
    assert groups["lift"] == rows["lift"] == -0.05
    assert groups["low"] < -0.2 < rows["low"]
    assert groups["groups"] == 20
    assert "groups" not in rows
    assert "200 rows in 20 groups" in groups["verdict"]
