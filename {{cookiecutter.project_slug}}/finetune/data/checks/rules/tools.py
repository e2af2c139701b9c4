"""Rules on tools, tool calls and their results. Source: OpenAI's API reference."""

import json
from collections.abc import Iterator
from typing import Any

from finetune.core.records import Example
from finetune.data.checks.rule import Found, describe, rule
from finetune.data.examples import calls_of, messages_of


def tools_of(example: Example) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each list of tools; the value may be of any type."""
    if "tools" in example:
        yield "tools", example["tools"]
    if isinstance(example.get("input"), dict) and "tools" in example["input"]:
        yield "input.tools", example["input"]["tools"]


def declared_functions(example: Example) -> list[Any]:
    """Return the names of the functions that the tools declare."""
    return [
        tool["function"].get("name")
        for _, tools in tools_of(example)
        for tool in (tools if isinstance(tools, list) else [])
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]


@rule("bad_tools", simple_chat_passes=True)
def tools_are_functions(example: Example) -> Found:
    for path, tools in tools_of(example):
        if not isinstance(tools, list):
            yield f"{path} is {describe(tools)}, not a list", "Write a list of functions."
            continue
        for index, tool in enumerate(tools):
            function = tool.get("function") if isinstance(tool, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                fix = 'Write {"type": "function", "function": {"name": "…"}}.'
                yield f"{path}[{index}] has no function with a name", fix


@rule("bad_tool_call", simple_chat_passes=True)
def calls_are_valid(example: Example) -> Found:
    declared = declared_functions(example)
    for path, message in messages_of(example):
        calls = message.get("tool_calls")
        if calls is not None and message.get("role") != "assistant":
            what = f"{path}: a message with the role {message.get('role')!r} has tool_calls"
            yield what, "Remove them: only assistant messages call tools."
        if calls is not None and (not isinstance(calls, list) or len(calls_of(message)) != len(calls) or not calls):
            yield f"{path}.tool_calls is not a list of calls", "Write a list of objects, or remove the key."
        for index, call in enumerate(calls_of(message)):
            yield from faults_of_call(f"{path}.tool_calls[{index}]", call, declared)


def faults_of_call(path: str, call: dict[str, Any], declared: list[Any]) -> Found:
    """Yield what is wrong with one tool call; `declared` are the names of the declared functions."""
    given = call.get("function")
    function = given if isinstance(given, dict) else {}
    if call.get("type") != "function" or not isinstance(call.get("id"), str):
        yield f"{path} has no id, or its type is not 'function'", "Add the id, and set the type to 'function'."
    if not isinstance(function.get("name"), str):
        yield f"{path} has no function name", "Add the name."
    elif function["name"] not in declared:
        yield f"{path} calls a function that 'tools' does not declare", "Declare it in this line's 'tools'."
    if not is_json_text(function.get("arguments")):
        yield f"{path}: the arguments are not a string of JSON", 'Write them as a string, such as "{\\"a\\": 1}".'


def is_json_text(value: Any) -> bool:
    try:
        json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(value, str)


@rule("unmatched_tool", simple_chat_passes=True)
def calls_have_results(example: Example) -> Found:
    waiting: dict[str, str] = {}  # path of each call without a result, by its ID
    for path, message in messages_of(example):
        if message.get("role") == "tool":
            if waiting.pop(str(message.get("tool_call_id")), None) is None:
                yield f"{path} is the result of no earlier call", "Set its tool_call_id to the id of an earlier call."
        elif waiting:
            # A conversation may end with a call, which is then what is trained. It may not go on without the result.
            yield f"{next(iter(waiting.values()))} has no result", "Add the tool's message right after the call."
            waiting = {}
        waiting |= {str(call.get("id")): f"{path}.tool_calls[{n}]" for n, call in enumerate(calls_of(message))}
