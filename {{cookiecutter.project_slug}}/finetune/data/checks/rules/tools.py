"""Rules on tools, tool calls and their results.

Sources: the types of the package `openai` (see api_forms.py), and OpenAI's API reference.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from finetune.core.records.prepared import Example
from finetune.data.checks.api_forms import EXAMPLE, form_faults
from finetune.data.checks.rule import Found, rule
from finetune.data.examples import OUTPUTS, calls_of, messages_of, shape_of

KEYS_OF_TOOLS = ("tools", "functions", "parallel_tool_calls")
CALLS = ("tool_calls", "function_call")
Messages = list[tuple[str, dict[str, Any]]]  # each with its path


def holders_of_tools(example: Example) -> Iterator[tuple[str, Example]]:
    """Yield what may declare tools, the example and the input of a preference, with the beginning of its paths."""
    yield "", example
    if isinstance(example.get("input"), dict):
        yield "input.", example["input"]


def declared(example: Example, key: str) -> list[str]:
    """Return the names of the functions that `tools` or `functions` declares."""
    names = []
    for _, holder in holders_of_tools(example):
        for tool in holder[key] if isinstance(holder.get(key), list) else []:
            function = tool.get("function") if key == "tools" and isinstance(tool, dict) else tool
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                names.append(function["name"])
    return names


@rule("bad_tools", simple_chat_passes=True)
def tools_are_valid(example: Example) -> Found:
    for before, holder in holders_of_tools(example):
        for key in KEYS_OF_TOOLS:
            if key in holder:
                yield from form_faults(EXAMPLE, key, holder[key], before + key)
        if holder.get("tools") and holder.get("functions"):
            yield f"{before}tools and {before}functions are both given", "Move the functions to 'tools'."
    for key in ("tools", "functions"):
        names = declared(example, key)
        for name, times in Counter(names).items() if len(set(names)) < len(names) else ():
            if times > 1:
                yield f"{key} declares {times} functions with the name {name[:64]!r}", "Keep or rename one of them."


@rule("bad_tool_call", simple_chat_passes=True)
def calls_are_valid(example: Example) -> Found:
    tools, functions = declared(example, "tools"), declared(example, "functions")
    for path, message in messages_of(example):
        for key in CALLS:
            if key not in message:
                continue
            if message.get("role") != "assistant":
                what = f"{path}: a message with the role {message.get('role')!r} has {key}"
                yield what, "Remove them: only assistant messages call tools."
            else:
                yield from form_faults("assistant", key, message[key], f"{path}.{key}")
        for index, call in enumerate(calls_of(message)):
            yield from undeclared(f"{path}.tool_calls[{index}]", call.get("function"), "tools", tools)
        yield from undeclared(f"{path}.function_call", message.get("function_call"), "functions", functions)


def undeclared(path: str, function: Any, key: str, names: list[str]) -> Found:
    """Yield a fault if a call names a function that the example does not declare."""
    name = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str) and name not in names:
        yield f"{path} calls a function that {key!r} does not declare", f"Declare it in this line's {key!r}."


def conversations(example: Example) -> Iterator[Messages]:
    """Yield the messages of an example; of a preference, the input with each of the two outputs."""
    messages = list(messages_of(example))
    if shape_of(example) != "preference":
        yield messages
        return
    for output in OUTPUTS:
        yield [(path, message) for path, message in messages if path.startswith(("input", output))]


@rule("unmatched_tool", simple_chat_passes=True)
def calls_have_results(example: Example) -> Found:
    faults = [fault for messages in conversations(example) for fault in faults_of_results(messages)]
    yield from dict.fromkeys(faults)  # both conversations of a preference have the faults of its input


def faults_of_results(messages: Messages) -> Found:
    """Yield calls without a result, and results without a call.

    A conversation may end with calls, which are then what is trained. It may not go on without their results.
    """
    waiting: dict[str, str] = {}  # path of each call without a result, by its ID
    for path, message in messages:
        if message.get("role") == "tool":
            if not isinstance(message.get("tool_call_id"), str):
                yield f"{path} has no tool_call_id", "Set it to the id of an earlier call."
            elif waiting.pop(message["tool_call_id"], None) is None:
                yield f"{path} is the result of no earlier call", "Set its tool_call_id to the id of an earlier call."
        elif waiting:
            yield no_result(waiting)
            waiting = {}
        for index, call in enumerate(calls_of(message)):
            if str(call.get("id")) in waiting:
                yield f"{path}.tool_calls[{index}] has the id of another call", "Give each call its own id."
            waiting[str(call.get("id"))] = f"{path}.tool_calls[{index}]"
    if waiting and messages[-1][1].get("role") == "tool":
        yield no_result(waiting)


def no_result(waiting: dict[str, str]) -> tuple[str, str]:
    return f"{next(iter(waiting.values()))} has no result", "Add the tool's message right after the call."
