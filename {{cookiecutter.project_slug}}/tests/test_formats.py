"""Rows of every format are converted to the right examples."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.data.formats import CONVERTERS, each_turn, examples_of, format_of

TOOLS = [{"type": "function", "function": {"name": "weather"}}]


def examples(*arguments: Any) -> tuple[list[Any], str]:
    pairs, form = examples_of(*arguments)
    return [example for _, example in pairs], form


def chat(*texts: str, system: str | None = None) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


@pytest.mark.parametrize(
    ("row", "form", "example"),
    [
        ({**chat("荷物は?", "配送"), "id": 7, "tools": None}, "messages", chat("荷物は?", "配送")),
        ({**chat("a", "b"), "tools": TOOLS}, "messages", {**chat("a", "b"), "tools": TOOLS}),
        ({"messages": json.dumps(chat("a", "b")["messages"]), "tools": ""}, "messages", chat("a", "b")),
        ({"prompt": " 환불은? ", "completion": " 결제"}, "completion", chat("환불은?", " 결제")),
        ({"instruction": "Translate", "input": "水", "output": "water"}, "alpaca", chat("Translate\n\n水", "water")),
        ({"instruction": "Add", "input": "", "output": 4}, "alpaca", chat("Add", "4")),
        ({"instruction": "a", "output": "b", "system": "c"}, "alpaca", chat("a", "b", system="c")),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "c"},
            "sharegpt",
            chat("a", "b", system="c"),
        ),
        (
            {"prompt": "どう?", "chosen": "良い", "rejected": "悪い"},
            "preference",
            {
                "input": chat("どう?"),
                "preferred_output": [{"role": "assistant", "content": "良い"}],
                "non_preferred_output": [{"role": "assistant", "content": "悪い"}],
            },
        ),
        (
            {
                "prompt": chat("a")["messages"],
                "chosen": chat("a", "b")["messages"],
                "rejected": chat("a", "c")["messages"],
            },
            "preference",
            {
                "input": chat("a"),
                "preferred_output": [{"role": "assistant", "content": "b"}],
                "non_preferred_output": [{"role": "assistant", "content": "c"}],
            },
        ),
    ],
)
def test_a_format_is_detected_by_its_keys(row: dict[str, Any], form: str, example: dict[str, Any]) -> None:
    assert examples([row], "auto", None, "raw") == ([example], form)


def test_with_a_template_rows_are_plain_columns() -> None:
    template = {"system": None, "user": "{prompt}", "assistant": "{completion}"}
    assert examples([{"prompt": "a", "completion": "b"}], "auto", template, "raw") == ([chat("a", "b")], "columns")
    with pytest.raises(FinetuneError, match="Remove one of the two"):
        examples([{"prompt": "a", "completion": "b"}], "completion", template, "raw")
    with pytest.raises(FinetuneError, match=r"no data\.prompt"):
        examples([{"a": "b"}], "columns", None, "raw")


TEMPLATE = {"system": None, "user": "{question}", "assistant": "{answer}"}


def test_braces_in_a_cell_are_not_placeholders() -> None:
    [built], _ = examples([{"question": "{answer} or {x}?", "answer": "a"}], "auto", TEMPLATE, "raw.csv")
    assert built == chat("{answer} or {x}?", "a")


def test_an_unknown_column_is_named_with_the_known_ones() -> None:
    with pytest.raises(FinetuneError, match=r"'questoin'(.|\n)*answer, question"):
        examples([{"question": "a", "answer": "b"}], "auto", {**TEMPLATE, "user": "{questoin}"}, "raw.csv")


def test_rows_without_an_answer_are_named() -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "a", "answer": " "}]
    with pytest.raises(FinetuneError, match=r"raw\.csv: .*: row 2 \(the question or the answer is empty\)"):
        examples(rows, "auto", TEMPLATE, "raw.csv")


def test_rows_of_no_format_or_another_format_are_named() -> None:
    with pytest.raises(FinetuneError, match=r"keys are answer, question(.|\n)*data\.prompt"):
        format_of({"question": "a", "answer": "b"}, "raw")
    rows = [chat("a", "b"), {"prompt": "a"}, {"messages": []}, {"messages": "[]x"}]
    with pytest.raises(FinetuneError, match=r"row 2 \(no 'messages'\), row 3 \(messages is empty\), row 4"):
        examples(rows, "auto", None, "raw")
    with pytest.raises(FinetuneError, match="is not one of human"):
        examples([{"conversations": [{"from": "bot", "value": "a"}]}], "auto", None, "raw")
    with pytest.raises(FinetuneError, match="output is empty"):
        examples([{"instruction": "a", "output": " "}], "auto", None, "raw")


def test_each_turn_is_an_example_with_the_turns_before_it() -> None:
    talk = chat("a", "b", "c", "d", system="s")
    one, two = each_turn(talk)
    assert one == chat("a", "b", system="s")
    assert [m.get("weight") for m in two["messages"]] == [None, None, 0, None, None]
    talk["messages"][2]["weight"] = 0
    [only] = each_turn({**talk, "tools": TOOLS})
    assert only["messages"][-1]["content"] == "d"
    assert only["tools"] == TOOLS


VALUE = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["human", "gpt", "[", "{}", "[1]"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["from", "value", "role", "content", "messages"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(CONVERTERS)), st.data())
def test_no_row_causes_a_traceback(form: Any, data: st.DataObject) -> None:
    keys = "messages conversations prompt completion instruction input output system chosen rejected tools"
    names = st.sampled_from([*keys.split(), "preferred_output", "non_preferred_output"])
    rows = data.draw(st.lists(st.dictionaries(names, VALUE, max_size=6), min_size=1, max_size=3))
    with suppress(FinetuneError):
        found, _ = examples(rows, form, None, "raw")
        assert len(found) == len(rows)
