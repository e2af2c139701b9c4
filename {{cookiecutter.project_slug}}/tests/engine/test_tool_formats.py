"""Calls of tools: written as the base's chat template writes them, and read from answers."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_of_tests import with_template

from finetune.engine.chat_template import render
from finetune.engine.conversation import Message
from finetune.engine.native_tool_format import tool_format_of
from finetune.engine.tool_calls import parse_tool_calls, sure_length
from finetune.engine.tool_format import DEFAULT_FORMAT, ToolFormat
from finetune.engine.training.encoding import IGNORE_INDEX, encode

TEMPLATES = ["hermes", "llama", "mistral", "chatml"]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "description": f"what {name} does",
     "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}
    for name in ("look", "go")
]  # fmt: skip
ASKED: Message = {"role": "user", "content": "where is it?"}


def answer(content: str, *calls: tuple[str, Any]) -> Message:
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for number, (name, arguments) in enumerate(calls)
        ],
    }


def trained_text(tokenizer: Any, messages: list[Message]) -> str:
    """Return what a model learns to answer: the labelled tokens, without the one that ends the turn."""
    labels = encode(tokenizer, messages, 10_000, TOOLS).labels
    return str(tokenizer.decode([one for one in labels if one not in (IGNORE_INDEX, tokenizer.eos_token_id)]))


def test_formats_are_read_from_chat_templates() -> None:
    assert tool_format_of(with_template("hermes")) == ToolFormat(
        begin="<tool_call>\n",
        name="name",
        arguments="arguments",
        separator="\n</tool_call>\n<tool_call>\n",
        end="\n</tool_call>",
        gap="\n",
        native=True,
    )
    assert tool_format_of(with_template("llama")) == ToolFormat(
        begin="", name="name", arguments="parameters", separator=None, end="", gap=None, native=True
    )
    assert tool_format_of(with_template("mistral")) == ToolFormat(
        begin="[TOOL_CALLS] [", separator=", ", end="]", gap=None, id="id", native=True
    )
    for name in ("chatml", "deepseek", "xml", "llama2"):  # they know no tools, or write no JSON
        assert tool_format_of(with_template(name)) == DEFAULT_FORMAT


CALLS = [
    [("look", {"at": "the lamp"})],
    [("look", {"at": "日本語 \"quoted\" }]"}), ("go", {})],
    [("go", {"a": [1, 2.5, None, True], "b": {"c": "</tool_call>\n<|im_end|>"}})],
]  # fmt: skip


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("content", ["", "Let me see."])
@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_trained_is_what_is_read(name: str, content: str, calls: Any) -> None:
    tokenizer = with_template(name)
    form = tool_format_of(tokenizer)
    if (form.separator is None and len(calls) > 1) or (form.gap is None and content):
        pytest.skip("not in this format")
    text = trained_text(tokenizer, [ASKED, answer(content, *calls)])
    found_content, found = parse_tool_calls(form, text, {"look", "go"})
    assert found_content == (content or None)
    assert [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in found] == calls
    assert len({one["id"] for one in found}) == len(calls)
    assert all(one["type"] == "function" for one in found)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_of_chat_is_the_beginning_of_the_trained_tokens(name: str) -> None:
    tokenizer = with_template(name)
    results: list[Message] = [{"role": "tool", "content": "on the table", "tool_call_id": "call_0", "name": "look"}]
    history: list[Message] = [ASKED, answer("", ("look", {"at": "x"})), *results]
    whole = encode(tokenizer, [*history, {"role": "assistant", "content": "On the table."}], 10_000, TOOLS)
    prompt = render(tokenizer, history, True, TOOLS)
    assert whole.input_ids[: len(prompt)] == prompt
    shown = tokenizer.decode(prompt)
    for word in ("what look does", "what go does", "on the table"):
        assert word in shown


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": }}\n</tool_call>",
        "<tool_call>\n{\"name\": \"look\", \"arguments\": [1]}\n</tool_call>",
        "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": NaN}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"look\", \"arguments\": {}}\n</tool_call> and more",
        "<tool_call>\n{\"name\": \"look\", \"arguments\": {}}",
        "<tool_call>\n{\"name\": \"lo ok\", \"arguments\": {}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>",
        "<tool_call>",
        "plain",
        "",
    ],
)  # fmt: skip
def test_what_is_no_valid_call_is_text(text: str) -> None:
    assert parse_tool_calls(DEFAULT_FORMAT, text, {"look"}) == (text, [])


def test_white_space_between_the_parts_may_differ() -> None:
    text = ' <tool_call>{ "name":"look","arguments" :{"at":1} }</tool_call>\n'
    content, (call,) = parse_tool_calls(DEFAULT_FORMAT, text)
    assert (content, call["function"]) == (None, {"name": "look", "arguments": '{"at": 1}'})


@pytest.mark.slow
@given(st.text(max_size=20), st.sampled_from([DEFAULT_FORMAT, tool_format_of(with_template("llama"))]))
@settings(max_examples=200, deadline=None)
def test_text_that_is_sure_is_never_part_of_a_call(before: str, form: ToolFormat) -> None:
    call = form.begin + json.dumps({form.name: "look", form.arguments: {}}) + form.end
    text = before + (form.gap or "" if before.strip() else "") + call
    content, calls = parse_tool_calls(form, text)
    sent = ""
    for length in range(len(text)):  # as the answer grows
        sure = sure_length(form, text[:length])
        assert text[:sure].startswith(sent)
        sent = text[:sure]
    if calls and content:
        assert content.startswith(sent)
    elif calls:
        assert not sent.strip()


def test_ids_of_calls_are_numbers_in_the_order_of_the_calls() -> None:
    """Mistral's template writes them; nobody can learn random ones."""
    tokenizer = with_template("mistral")
    messages: list[Message] = [
        ASKED,
        answer("", ("look", {}), ("go", {})),
        {"role": "tool", "content": "r0", "tool_call_id": "call_0", "name": "look"},
        {"role": "tool", "content": "r1", "tool_call_id": "call_1", "name": "go"},
    ]
    shown = tokenizer.decode(render(tokenizer, messages, True, TOOLS))
    assert '"arguments": {}, "id": "000000001"}, {"name": "go", "arguments": {}, "id": "000000002"}]' in shown
    assert '"content": "r1", "call_id": "000000002"' in shown


def test_tools_are_described_in_the_system_prompt_where_the_template_knows_none() -> None:
    tokenizer = with_template("chatml")
    system: Message = {"role": "system", "content": "Be brief."}
    for messages in ([ASKED], [system, ASKED]):
        shown = tokenizer.decode(render(tokenizer, messages, True, TOOLS))
        own = "Be brief.\n\n" if len(messages) > 1 else ""
        assert shown.startswith(f"<|im_start|>system\n{own}You can call")
        assert shown.count("<|im_start|>") == 3
        assert json.dumps(TOOLS[1]) in shown
