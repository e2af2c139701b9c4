"""Tools: calls that fit their schemas, by the SDK, in company, streamed, and with results that go back to the model."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from tiny import make_tiny_base

CHAT: Any = [{"role": "user", "content": "what is the weather?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Köln", "Rom"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["place", "days"],
            "additionalProperties": False,
        },
    },
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": NOTHING}}


@pytest.fixture(autouse=True, scope="module")
def roomy(home: Path) -> None:
    """Make a base whose context has room for the description of tools: its tokens are bytes."""
    make_tiny_base(home / "bases" / "roomy", context=4096)


def ask(client: openai.OpenAI, seed: int, **more: Any) -> Any:
    settings: dict[str, Any] = {"tools": [WEATHER, CLOCK], "max_tokens": 400, "temperature": 1} | more
    return client.chat.completions.create(model="roomy", messages=CHAT, seed=seed, **settings)


@pytest.mark.slow
def test_required_calls_fit_their_schemas(client: openai.OpenAI) -> None:
    answers = ask(client, 1, n=20, tool_choice="required", parallel_tool_calls=False).choices
    assert {one.finish_reason for one in answers} == {"tool_calls"}
    calls = [call for one in answers for call in one.message.tool_calls]
    assert len(calls) == 20
    assert {call.function.name for call in calls} == {"weather", "clock"}
    for call in calls:
        arguments = json.loads(call.function.arguments)
        if call.function.name == "weather":
            assert arguments["place"] in ("Köln", "Rom")
            assert 1 <= arguments["days"] <= 9
    assert len({call.id for call in calls}) == 20
    assert {one.message.content for one in answers} == {None}


def test_a_named_function_is_called(client: openai.OpenAI) -> None:
    choice = {"type": "function", "function": {"name": "clock"}}
    answers = ask(client, 2, n=5, tool_choice=choice).choices
    assert [[call.function.name for call in one.message.tool_calls] for one in answers] == [["clock"]] * 5


def test_without_a_choice_of_calls_an_answer_is_text(client: openai.OpenAI) -> None:
    answer = ask(client, 3, tool_choice="none", max_tokens=20).choices[0]
    assert answer.message.tool_calls is None
    assert answer.message.content


def test_a_stream_has_the_same_calls(client: openai.OpenAI) -> None:
    whole = ask(client, 4, tool_choice="required", parallel_tool_calls=False).choices[0]
    names, arguments, ends = [], "", []
    for chunk in ask(client, 4, tool_choice="required", parallel_tool_calls=False, stream=True):
        delta = chunk.choices[0].delta
        assert not delta.content
        for call in delta.tool_calls or []:
            names.append(call.function.name)
            arguments += call.function.arguments
        ends += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
    (call,) = whole.message.tool_calls
    assert (names, arguments, ends) == ([call.function.name], call.function.arguments, ["tool_calls"])


def test_results_go_back_to_the_model(client: openai.OpenAI) -> None:
    first = ask(client, 5, tool_choice="required", parallel_tool_calls=False).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "sunny"}
    messages: Any = [*CHAT, first.to_dict(), result]
    tools: Any = [WEATHER, CLOCK]
    settings: dict[str, Any] = {"model": "roomy", "messages": messages, "max_tokens": 5}
    with_result = client.chat.completions.create(**settings, tools=tools)
    assert with_result.usage
    without = client.chat.completions.create(model="roomy", messages=CHAT, tools=tools, max_tokens=5)
    assert without.usage
    assert with_result.usage.prompt_tokens > without.usage.prompt_tokens + len("sunny")
    messages[2] = {**result, "tool_call_id": "call_other"}
    with pytest.raises(openai.BadRequestError, match="no result of a call"):
        client.chat.completions.create(**settings, tools=tools)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
    ],
)
def test_wrong_tools_are_refused_by_their_name(client: openai.OpenAI, more: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, 1, **more)
    assert refused.value.param == param
