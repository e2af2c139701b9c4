"""Keys of messages are used or refused by name, in chat and in training."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tokenizers_of_tests import with_template

from finetune.engine.api_errors import JobError
from finetune.engine.chat_messages import ChatMessage
from finetune.engine.chat_template import check_used, render
from finetune.engine.conversation import InvalidChat, conversation, invalid_chat
from finetune.engine.training.encoding import encode_file
from finetune.engine.training.training_file import read_examples

MESSAGES: TypeAdapter[list[Any]] = TypeAdapter(list[ChatMessage])
USER: dict[str, Any] = {"role": "user", "content": "a"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "b"}
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CALLS: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TWO_CALLS: dict[str, Any] = {**CALLS, "tool_calls": [CALL, {**CALL, "id": "c2"}]}
RESULT: dict[str, Any] = {"role": "tool", "content": "r", "tool_call_id": "c1"}


def chat(*messages: Any) -> Any:
    return conversation(MESSAGES.validate_python(list(messages)))


def refusal(*messages: Any) -> str:
    """Return why a chat is refused."""
    try:
        chat(*messages)
    except ValidationError as error:
        return str(invalid_chat(error))
    except InvalidChat as error:
        return str(error)
    raise AssertionError(messages)


REFUSED: list[tuple[list[Any], str]] = [
    ([{**USER, "colour": "red"}], "'[0].colour' is a key"),
    ([{**ANSWER, "weight": 1}], "'[0].weight' is a key"),
    ([{**ANSWER, "refusal": "I cannot"}], "'[0].refusal' must be null"),
    ([{**ANSWER, "audio": {"id": "x"}}], "'[0].audio' must be null"),
    ([{**ANSWER, "tool_call_id": "c1"}], "'[0].tool_call_id' is a key"),
    ([{**USER, "tool_calls": [CALL]}], "'[0].tool_calls' is a key"),
    ([{**CALLS, "tool_calls": [{**CALL, "index": 0}]}], "'[0].tool_calls[0].index' is a key"),
    ([{**CALLS, "tool_calls": [{**CALL, "type": "custom"}]}], "'[0].tool_calls[0].type'"),
    ([{**CALLS, "tool_calls": [{**CALL, "function": {"name": "a b", "arguments": "{}"}}]}], "[0].function.name'"),
    ([{**CALLS, "tool_calls": [{**CALL, "function": {"name": "a", "arguments": {}}}]}], "[0].function.arguments'"),
    ([{**CALLS, "tool_calls": [{**CALL, "function": {"name": "a", "arguments": "[]"}}]}], "must be a JSON object"),
    ([{**CALLS, "tool_calls": [{**CALL, "function": {"name": "a", "arguments": "{"}}]}], "must be a JSON object"),
    ([{"role": "bot", "content": "a"}], "'[0]' has a role that is none of system"),
    ([{"content": "a"}], "'[0]' has no role"),
    ([{"role": "user"}], "'[0].content' is missing"),
    ([{"role": "user", "content": None}], "'[0].content'"),
    ([{"role": "user", "content": 5}], "'[0].content'"),
    ([{"role": "user", "content": []}], "'[0].content' has no parts"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "of type 'image_url'"),
    ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], "of type 'input_audio'"),
    ([{"role": "user", "content": [{"type": "file", "file": {}}]}], "of type 'file'"),
    ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]}], "of type 'refusal'"),
    ([{"role": "user", "content": [{"type": "text", "text": "a", "cache": 1}]}], "not exactly a type and a text"),
    ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "not exactly a type and a text"),
    ([{"role": "user", "content": ["a"]}], "of type None"),
    ([{"role": "assistant"}], "'messages[0].content' is missing"),
    ([USER, CALLS, USER], "'messages[1]' has calls without a result: c1"),
    ([USER, CALLS], "'messages[1]' has calls without a result: c1"),
    ([USER, RESULT], "'messages[1]' is no result of a call"),
    ([USER, CALLS, RESULT, RESULT], "'messages[3]' is no result of a call"),
    ([USER, CALLS, {**RESULT, "name": "go"}], "'messages[2].name' is not the name of the called function"),
    ([USER, {**CALLS, "tool_calls": [CALL, CALL]}], "two calls with one ID"),
    ([{**USER, "name": "a b"}], "'[0].name'"),
    ([5], "'[0]' must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "why"), REFUSED)
def test_what_is_not_used_is_refused_by_its_place(messages: list[Any], why: str) -> None:
    assert why in refusal(*messages)


def test_messages_of_all_roles_become_a_conversation() -> None:
    former = {"role": "assistant", "content": None, "function_call": {"name": "go", "arguments": '{"to": "x"}'}}
    found = chat(
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "developer", "content": "c"},
        {**USER, "name": "Bob"},
        {**CALLS, "tool_calls": [CALL, {**CALL, "id": "c2"}], "refusal": None, "audio": None, "annotations": []},
        {**RESULT, "tool_call_id": "c2", "content": "second"},
        {**RESULT, "name": "look"},
        {**ANSWER, "tool_calls": [], "function_call": None, "refusal": None},
        former,
        {"role": "function", "name": "go", "content": "there"},
    )
    assert [one["role"] for one in found] == [
        "system", "developer", "user", "assistant", "tool", "tool", "assistant", "assistant", "tool",
    ]  # fmt: skip
    assert found[0]["content"] == "a\nb"
    assert found[2]["name"] == "Bob"
    assert found[3]["content"] == ""
    assert [one["content"] for one in found[4:6]] == ["r", "second"]  # in the order of the calls
    assert found[7]["tool_calls"][0]["function"] == {"name": "go", "arguments": '{"to": "x"}'}
    assert found[8]["name"] == "go"


@pytest.mark.parametrize(
    ("template", "messages", "place"),
    [
        ("chatml", [{**USER, "name": "Bob"}], "messages[0].name"),
        ("chatml", [USER, {**ANSWER, "name": "Bob"}], "messages[1].name"),
        ("mistral", [USER, ANSWER, {"role": "system", "content": "x"}, USER], "messages"),
        ("mistral", [USER, {**CALLS, "content": "text too"}, RESULT], "messages[1].content"),
        ("llama", [USER, TWO_CALLS, RESULT, {**RESULT, "tool_call_id": "c2"}], "messages"),
        ("llama2", [USER, ANSWER, {"role": "system", "content": "x"}, USER], "messages[2].content"),
    ],
)  # fmt: skip
def test_what_the_chat_template_leaves_out_is_refused(template: str, messages: list[Any], place: str) -> None:
    with pytest.raises(InvalidChat, match="chat template of tiny") as refused:
        check_used(with_template(template), chat(*messages), base="tiny")
    assert refused.value.place == place


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        ("xml", [{**USER, "name": "Bob"}]),
        ("chatml", [{"role": "developer", "content": "x"}, USER, CALLS, RESULT]),
        ("hermes", [{"role": "developer", "content": "x"}, USER, CALLS, {**RESULT, "name": "look"}]),
        ("mistral", [{"role": "developer", "content": "x"}, USER, CALLS, RESULT]),
        ("llama", [{"role": "system", "content": "x"}, USER, CALLS, RESULT, ANSWER]),
        ("llama2", [{"role": "system", "content": "x"}, USER, CALLS, RESULT, ANSWER]),
        ("chatml", [USER, {**CALLS, "content": "text too"}, RESULT]),
    ],
)  # fmt: skip
def test_what_the_chat_template_can_write_is_written(template: str, messages: list[Any]) -> None:
    tokenizer, found = with_template(template), chat(*messages)
    check_used(tokenizer, found)
    shown = tokenizer.decode(render(tokenizer, found, add_generation_prompt=False))
    assert all(one["content"] in shown for one in found)
    assert "developer" not in shown or template == "chatml"


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
REFUSED_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"messages": [USER, {**ANSWER, "weight": True}]}, r"'messages\[1\].weight'"),
    ({"messages": [USER, {**ANSWER, "weight": 1.0}]}, r"'messages\[1\].weight'"),
    ({"messages": [USER, {**ANSWER, "weight": 2}]}, r"'messages\[1\].weight'"),
    ({"messages": [{**USER, "weight": 0}, ANSWER]}, r"'messages\[0\].weight' is a key"),
    ({"messages": [USER, {**ANSWER, "name": "Bob"}]}, r"'messages\[1\].name' is left out by the chat template"),
    ({"messages": [USER, {**ANSWER, "colour": 0}]}, r"'messages\[1\].colour' is a key"),
    ({"messages": [USER, ANSWER], "weight": 1}, 'contains an extra "weight"'),
    ({"messages": []}, "'messages'"),
    ({"messages": [USER, ANSWER], "tools": [{**TOOL, "type": "web_search"}]}, r"'tools\[0\].type'"),
    ({"messages": [USER, ANSWER], "tools": [{**TOOL, "strict": True}]}, r"'tools\[0\].strict' is a key"),
    ({"messages": [USER, ANSWER], "parallel_tool_calls": 0}, "'parallel_tool_calls'"),
    (
        {
            "messages": [USER, {**CALLS, "tool_calls": [CALL, {**CALL, "id": "c2"}]}],
            "tools": [TOOL],
            "parallel_tool_calls": False,
        },
        "several calls",
    ),
    ({"messages": [USER]}, "no assistant message to train on"),
    ({"prompt": "a", "completion": "b"}, "The examples before it have messages, and this one prompts and completions"),
    ({"prompt": "a"}, "missing key 'messages'"),
]


@pytest.mark.parametrize(("row", "why"), REFUSED_ROWS)
def test_a_training_row_is_refused_with_its_line(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    good = {"messages": [USER, ANSWER]}
    with pytest.raises(JobError, match=rf"^Example 2 .*{why}.*\(line 2\)$") as refused:
        encode_file(with_template("chatml"), file_of(tmp_path, good, row), 1000, "validation_file")
    assert (refused.value.code, refused.value.param) == ("invalid_training_file", "validation_file")


@pytest.mark.parametrize("template", ["chatml", "hermes", "llama", "mistral"])
def test_rows_with_tools_are_encoded(tmp_path: Path, template: str) -> None:
    rows = [
        {"messages": [USER, CALLS], "tools": [TOOL], "parallel_tool_calls": True},
        {"messages": [USER, CALLS, RESULT, ANSWER], "functions": [TOOL["function"]]},
        {"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1, "refusal": None}]},
    ]
    tokenizer = with_template(template)
    encoded = encode_file(tokenizer, file_of(tmp_path, *rows), 10_000, "validation_file")
    shown = [tokenizer.decode([one for one in example.labels if one >= 0]) for example in encoded]
    assert "look" in shown[0]
    assert [one.count(tokenizer.eos_token) for one in shown] == [1, 2, 1]
    (first, *_) = read_examples(tmp_path / "train.jsonl", "validation_file")
    assert first.get("tools") == [TOOL]


def test_all_answers_are_trained_where_the_template_ends_the_whole_conversation(tmp_path: Path) -> None:
    """Phi's writes the tokenizer's end token once, after the last turn."""
    tokenizer = with_template("phi")
    (one,) = encode_file(tokenizer, file_of(tmp_path, {"messages": [USER, ANSWER] * 2}), 1000, "validation_file")
    shown = tokenizer.decode([label for label in one.labels if label >= 0])
    assert shown == f"b<|end|>\nb<|end|>\n{tokenizer.eos_token}"


def test_a_template_that_writes_the_date_writes_the_same_every_day() -> None:
    tokenizer = with_template("dated")
    assert "Today: 26 Jul 2024" in tokenizer.decode(render(tokenizer, chat(USER), add_generation_prompt=True))


def test_a_system_prompt_is_in_the_first_message_where_the_template_has_no_such_role() -> None:
    tokenizer = with_template("gemma")
    system = {"role": "system", "content": "be brief"}
    shown = tokenizer.decode(render(tokenizer, chat(system, USER, ANSWER), add_generation_prompt=False))
    turns = "<start_of_turn>user\nbe brief\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
    assert shown == tokenizer.bos_token + turns
