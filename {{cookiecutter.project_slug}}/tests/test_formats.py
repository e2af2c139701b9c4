"""Rows of every format are converted to the right examples."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.errors import FinetuneError
from finetune.data.formats import CONVERTERS, each_turn, examples_of, format_of
from finetune.data.null_keys import without_null_keys
from finetune.data.raw_file import Places, Rows

TOOLS = [{"type": "function", "function": {"name": "weather"}}]


def examples(*arguments: Any) -> tuple[list[Any], str]:
    pairs, form = examples_of(*arguments)
    return [example for _, example in pairs], form


def chat(*texts: str, system: str | None = None) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


def call(number: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


TALK = chat("a", "b", "c", "d")["messages"]
CALLING = {"role": "assistant", "tool_calls": [call("call_1", "weather", "{}")], "content": ""}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "3"}
DONE = {"role": "assistant", "content": "cold"}


@pytest.mark.parametrize(
    ("row", "form", "example"),
    [
        ({**chat("荷物は?", "配送"), "id": 7, "tools": None}, "messages", chat("荷物は?", "配送")),
        ({**chat("a", "b"), "tools": TOOLS}, "messages", {**chat("a", "b"), "tools": TOOLS}),
        ({"messages": json.dumps(chat("a", "b")["messages"]), "tools": ""}, "messages", chat("a", "b")),
        ({"prompt": "환불은? ->", "completion": " 결제"}, "completion", chat("환불은? ->", " 결제")),
        ({"prompt": chat("a")["messages"], "completion": "b"}, "completion", chat("a", "b")),
        (
            {"prompt": chat("a", "b", "c")["messages"], "completion": [{"role": "assistant", "content": "d"}]},
            "completion",
            {"messages": [turn | ({"weight": 0} if n == 1 else {}) for n, turn in enumerate(TALK)]},
        ),
        ({"instruction": "Translate", "input": "水", "output": "water"}, "alpaca", chat("Translate\n\n水", "water")),
        ({"instruction": "Add", "input": "", "output": 4}, "alpaca", chat("Add", "4")),
        ({"instruction": "a", "output": "b", "system": "c"}, "alpaca", chat("a", "b", system="c")),
        (
            {"instruction": "c", "output": "d", "history": [["a", "b"]], "system_prompt": "s", "input": None},
            "alpaca",
            chat("a", "b", "c", "d", system="s"),
        ),
        ({"instruction": "c", "output": "d", "history": '[["a", "b"]]'}, "alpaca", chat("a", "b", "c", "d")),
        ({**chat("a", "b"), "system": "s", "completion": None, "prompt": ""}, "messages", chat("a", "b", system="s")),
        ({**chat("a", "b", system="s"), "system": "s"}, "messages", chat("a", "b", system="s")),
        ({"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "messages", chat("a", "b")),
        ({"conversations": chat("a", "b")["messages"]}, "sharegpt", chat("a", "b")),
        (
            {
                "messages": [{**turn, "name": None, "tool_calls": []} for turn in TALK],
                "tool_choice": None,
                "images": [],
            },
            "messages",
            {"messages": TALK},
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "날씨?"},
                    {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "서울"}}'},
                    {"from": "observation", "value": '{"t": 3}'},
                    {"from": "gpt", "value": "춥다", "weight": 1},
                ],
                "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
            },
            "sharegpt",
            {
                "messages": [
                    {"role": "user", "content": "날씨?"},
                    {"role": "assistant", "tool_calls": [call("call_1", "weather", '{"city": "서울"}')]},
                    {"role": "tool", "tool_call_id": "call_1", "content": '{"t": 3}'},
                    {"role": "assistant", "content": "춥다", "weight": 1},
                ],
                "tools": [
                    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},
                ],
            },
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "loss": False}]},
            "sharegpt",
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
        ),
        *(
            (
                {turns: [{**asked, key: value, "weight": weight}, {**answer, key: value}]},
                form,
                {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
            )
            for key, value, weight in (("training", False, 0), ("loss", 0, None), ("train", "False", 0))
            for turns, form, asked, answer in (
                ("conversations", "sharegpt", {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}),
                ("messages", "messages", *chat("a", "b")["messages"]),
            )
        ),
        ({"messages": [TALK[0], {**TALK[1], "training": True, "loss": 1.0}]}, "messages", chat("a", "b")),
        (
            {"prompt": chat("a")["messages"], "completion": [CALLING, RESULT, DONE], "tools": TOOLS},
            "completion",
            {"messages": [*chat("a")["messages"], CALLING, RESULT, DONE], "tools": TOOLS},
        ),
        (
            {
                "prompt": chat("a")["messages"],
                "completion": [{"role": "assistant", "tool_calls": [call("1", "weather", "{}")]}],
            },
            "completion",
            {
                "messages": [
                    *chat("a")["messages"],
                    {"role": "assistant", "tool_calls": [call("1", "weather", "{}")]},
                ]
            },
        ),
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
        *(
            (
                row,
                "preference",
                {
                    "input": chat("a", system="s"),
                    "preferred_output": [{"role": "assistant", "content": "b"}],
                    "non_preferred_output": [{"role": "assistant", "content": "c"}],
                },
            )
            for row in (
                {
                    "conversations": [{"from": "human", "value": "a"}],
                    "chosen": {"from": "gpt", "value": "b"},
                    "rejected": {"from": "gpt", "value": "c"},
                    "system": "s",
                },
                {"chosen": chat("a", "b", system="s")["messages"], "rejected": chat("a", "c", system="s")["messages"]},
                {"prompt": "a", "chosen": {"role": "assistant", "content": "b"}, "rejected": "c", "system": "s"},
            )
        ),
        (
            {"prompt": "a", "chosen": [CALLING, RESULT, DONE], "rejected": [DONE]},
            "preference",
            {"input": chat("a"), "preferred_output": [CALLING, RESULT, DONE], "non_preferred_output": [DONE]},
        ),
    ],
)
def test_a_format_is_detected_by_its_keys(row: dict[str, Any], form: str, example: dict[str, Any]) -> None:
    assert examples([row], "auto", None, "raw") == ([example], form)


def test_keys_that_a_table_fills_with_null_are_left_out_of_parts_calls_and_tools() -> None:
    """As Parquet writes them: all objects of a column have the same keys."""
    url = "https://example.com/a.png"
    content = [
        {"type": "text", "text": "何?", "image_url": None},
        {"type": "image_url", "text": None, "image_url": {"url": url, "detail": None}},
        {"type": "text", "text": "", "image_url": {"url": None, "detail": None}},
    ]
    call = {"id": "c1", "type": "function", "index": None, "function": {"name": "w", "arguments": '{"a": null}'}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call], "name": None}
    schema = {"type": "object", "properties": {"a": {"enum": ["x", None], "default": None, "title": None}, "b": None}}
    row = {
        "messages": [{"role": "user", "content": content, "tool_calls": None, "name": None}, answer],
        "tools": [{"type": "function", "function": {"name": "w", "description": None, "parameters": schema}}],
    }
    kept = {"type": "object", "properties": {"a": {"enum": ["x", None], "default": None}}}
    assert examples([row], "auto", None, "raw")[0] == [
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "何?"},
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "text", "text": ""},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": [{k: v for k, v in call.items() if k != "index"}]},
            ],
            "tools": [{"type": "function", "function": {"name": "w", "parameters": kept}}],
        }
    ]


def test_with_a_template_rows_are_plain_columns() -> None:
    template = {"system": None, "user": "{prompt}", "assistant": "{completion}"}
    assert examples([{"prompt": "a", "completion": "b"}], "auto", template, "raw") == ([chat("a", "b")], "columns")
    with pytest.raises(FinetuneError, match="Remove one of the two"):
        examples([{"prompt": "a", "completion": "b"}], "completion", template, "raw")
    with pytest.raises(FinetuneError, match=r"no data\.prompt"):
        examples([{"a": "b"}], "columns", None, "raw")


TEMPLATE = {"system": None, "user": "{question}", "assistant": "{answer}"}


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({**chat("a", "b"), "label": False}, "'label' is false, which marks an answer not to learn"),
        ({**chat("a", "b"), "label": "False"}, "'label' is False"),
        ({"prompt": "a", "completion": "b", "label": 0}, "'label' is 0"),
        ({"instruction": "a", "output": "b", "kto_tag": False}, "'kto_tag' is false"),
        ({**chat("a", "b"), "images": ["a.png"]}, "the key 'images'"),
        ({"instruction": "a", "output": "b", "image": "a.png"}, "the key 'image'"),
        ({"prompt": "a", "completion": "b", "videos": ["a.mp4"]}, "the key 'videos'"),
        ({**chat("a", "b"), "tool_choice": "required"}, "the key 'tool_choice'"),
        ({**chat("a", "b"), "function_call": {"name": "f"}}, "the key 'function_call'"),
        ({**chat("a", "b"), "response_format": {"type": "json_object"}}, "the key 'response_format'"),
        ({**chat("a", "b"), "rejected_response": "c"}, "the key 'rejected_response'"),
        ({**chat("a", "b"), "rejected": "c"}, "the key 'rejected'"),
        ({"prompt": "a", "completion": "b", "history": [["c", "d"]]}, "the key 'history'"),
        ({**chat("a", "b", system="c"), "system": "d"}, "two different system prompts"),
        ({"instruction": "a", "output": ["best", "worst"]}, "output is a list"),
        ({"instruction": "a", "output": "b", "history": ["c", "d"]}, "history is not a list of pairs"),
        ({"prompt": "a", "completion": ["b", "c"]}, "completion is a list"),
        ({"prompt": ["a", "b"], "completion": "c"}, "prompt is a list"),
        ({"prompt": json.dumps(TALK[:1]), "completion": "b"}, "prompt is text that holds a list of messages"),
        ({"prompt": "a", "completion": str(TALK[1:2])}, "completion is text that holds a list of messages"),
        ({**chat("a", "b"), "tools": "weather"}, "tools is not a list"),
        (
            {"conversations": [{"from": "human", "value": "a", "images": ["b.png"]}]},
            "a turn has the key 'images'",
        ),
        ({"conversations": [{"from": "observation", "value": "3"}]}, "no function_call is before it"),
        ({"conversations": [{"from": "function_call", "value": "weather()"}]}, "function_call is not JSON"),
    ],
)
def test_a_key_with_a_meaning_is_refused_by_its_name(row: dict[str, Any], named: str) -> None:
    with pytest.raises(FinetuneError, match=r"raw: .*row 1 ") as caught:
        examples([row], "auto", None, "raw")
    assert named in str(caught.value)


def test_a_column_that_a_parameter_uses_is_not_refused() -> None:
    pairs, _ = examples_of([{**chat("a", "b"), "label": 0}], "auto", None, "raw", declared={"label"})
    assert len(list(pairs)) == 1


def test_rows_with_the_same_fault_are_named_together() -> None:
    rows = [chat("a", "b"), *[{**chat("a", "b"), "label": False}] * 12, {"messages": []}]
    with pytest.raises(FinetuneError, match=r"rows 2, 3, .*, 11 and 2 more \('label'.*; row 14 \("):
        examples(rows, "auto", None, "raw")
    rows = [{"messages": [{"role": "user", "content": "a"}, "b"]}, *[{f"m{n}": n, "messages": ""} for n in range(3)]]
    with pytest.raises(FinetuneError, match=r"row 1 \(messages has an entry.*; rows 2, 3, 4 \(messages is empty\)"):
        examples(rows, "auto", None, "raw")


JSON_TEXT = st.sampled_from(['{"paid": true}', "[1, 2]", '["a"]', "{}", "null", "007", "1.0", "true"])
ANY_TEXT = (st.text(max_size=20) | JSON_TEXT).filter(str.strip)
EDGES = st.sampled_from(["", " ", "    ", "\n", "\t", "\u3000"])


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT, ANY_TEXT, EDGES, EDGES)
def test_texts_arrive_as_they_are_in_every_format(question: str, answer: str, before: str, after: str) -> None:
    question, answer = before + question + after, after + answer + before
    expected = chat(question, answer)
    rows = {
        "messages": expected,
        "completion": {"prompt": question, "completion": answer},
        "alpaca": {"instruction": question, "output": answer},
        "sharegpt": {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]},
    }
    for form, row in rows.items():
        assert examples([row], "auto", None, "raw") == ([expected], form)
    assert examples([{"question": question, "answer": answer}], "auto", TEMPLATE, "raw")[0] == [expected]


def test_white_space_of_the_template_around_an_empty_cell_is_not_kept() -> None:
    template = {"system": None, "user": "\n{context}\n\n{question}\n\n{hint}\n", "assistant": " {answer}\n"}
    row = {"context": "", "question": " a ", "hint": None, "answer": "  b\n"}
    assert examples([row], "auto", template, "raw")[0] == [chat(" a ", "  b\n")]


def test_braces_in_a_cell_are_not_placeholders() -> None:
    [built], _ = examples([{"question": "{answer} or {x}?", "answer": "a"}], "auto", TEMPLATE, "raw.csv")
    assert built == chat("{answer} or {x}?", "a")


def test_an_unknown_column_is_named_with_the_known_ones() -> None:
    with pytest.raises(FinetuneError, match=r"'questoin'(.|\n)*answer, question"):
        examples([{"question": "a", "answer": "b"}], "auto", {**TEMPLATE, "user": "{questoin}"}, "raw.csv")


def test_rows_without_an_answer_are_named() -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "a", "answer": " "}]
    with pytest.raises(FinetuneError, match=r"raw\.csv: .*: row 2 \(the cell 'answer' is empty\)"):
        examples(rows, "auto", TEMPLATE, "raw.csv")


def test_the_empty_cells_are_named_with_their_lines_and_no_other_format_is_advised() -> None:
    empty: list[dict[str, Any]] = [
        {"question": " ", "answer": "b"},
        {"question": "a", "answer": ""},
        {"question": "a", "answer": None},
    ]
    places = Places()
    places.add(1, 2)  # below the names of the columns
    with pytest.raises(FinetuneError) as error:
        examples(Rows([{"question": "a", "answer": "b"}, *empty], places), "auto", TEMPLATE, "raw.csv")
    assert error.value.what == (
        "raw.csv: rows that cannot be converted: line 3, row 2 (the cell 'question' is empty);"
        " lines 4, 5 (the cell 'answer' is empty)."
    )
    assert error.value.remedy == "Correct or remove these rows."
    template = {"user": "{question}{hint}", "assistant": "{answer}"}
    with pytest.raises(FinetuneError, match=r"rows 1, 2 \(the cells 'question', 'hint' are empty\)"):
        examples([{"question": "", "hint": "", "answer": "b"}] * 2, "auto", template, "raw.csv")


def test_rows_of_no_format_or_another_format_are_named() -> None:
    with pytest.raises(FinetuneError, match=r"keys are answer, question(.|\n)*data\.prompt"):
        format_of({"question": "a", "answer": "b"}, "raw")
    with pytest.raises(FinetuneError, match="in lower case, such as prompt and completion"):
        format_of({"Prompt": "a", "Completion ": "b"}, "raw")
    rows = [chat("a", "b"), {"prompt": "a"}, {"messages": []}, {"messages": "[]x"}]
    with pytest.raises(FinetuneError, match=r"row 2 \(no 'messages'\); row 3 \(messages is empty\); row 4"):
        examples(rows, "auto", None, "raw")
    with pytest.raises(FinetuneError, match="is not one of human"):
        examples([{"conversations": [{"from": "bot", "value": "a"}]}], "auto", None, "raw")
    with pytest.raises(FinetuneError, match="output is empty"):
        examples([{"instruction": "a", "output": " "}], "auto", None, "raw")


@pytest.mark.parametrize("key", ["label", "kto_tag", "weight"])
@pytest.mark.parametrize("value", [False, 0, "0", " False "])
def test_a_row_that_is_marked_as_not_to_learn_is_refused(key: str, value: Any) -> None:
    with pytest.raises(FinetuneError, match=rf"row 2 \('{key}' is .* marks an answer not to learn"):
        examples([{**chat("a", "b"), key: 1}, {**chat("c", "d"), key: value}], "auto", None, "raw")


@pytest.mark.parametrize("key", ["image", "image_url", "image_paths"])
def test_images_beside_the_messages_are_refused_by_their_key(key: str) -> None:
    with pytest.raises(FinetuneError, match=f"the key '{key}': put each image into the content"):
        examples([{**chat("<image> a", "b"), key: "a.png"}], "auto", None, "raw")


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
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["human", "gpt", "function_call", "tool", "[", "{}", "[1]"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "value", "role", "content", "messages", "name", "arguments"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(CONVERTERS)), st.data())
def test_no_row_causes_a_traceback(form: Any, data: st.DataObject) -> None:
    keys = "messages conversations prompt completion instruction input output system chosen rejected tools history"
    names = st.sampled_from([*keys.split(), "preferred_output", "non_preferred_output"])
    rows = data.draw(st.lists(st.dictionaries(names, VALUE, max_size=6), min_size=1, max_size=3))
    with suppress(FinetuneError):
        found, _ = examples(rows, form, None, "raw")
        assert len(found) == len(rows)


def test_parameters_that_are_a_list_lose_their_null_keys_without_a_traceback() -> None:
    found = without_null_keys({"function": {"parameters": [{"type": "object", "title": None}]}})
    assert found == {"function": {"parameters": [{"type": "object"}]}}
