"""The conversation that checked messages make: turns, and each call of a tool with its result."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from typing_extensions import NotRequired, TypedDict

from finetune.engine.chat_messages import FunctionMessage, ToolMessage
from finetune.engine.field_errors import path_of, words_of
from finetune.engine.tool_calls import ToolCall

RESULTS = (ToolMessage, FunctionMessage)
FORMER_ID = "function_call"  # of the one call in OpenAI's former form, which has none
NO_CALL = "is no result of a call in the answer before it"


class Message(TypedDict):
    """One turn of a conversation; an assistant's turn of `weight` 0 is not trained on.

    Content that was null is "", parts of text are joined with line breaks, and calls of functions in OpenAI's former
    form (`function_call`) are calls of tools.
    """

    role: str
    content: str
    name: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    weight: NotRequired[int]


class InvalidChat(ValueError):
    """What is wrong with a conversation; `place` is the path to it, as `messages[2].tool_calls[0].id`."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"'{place}' {what}")
        self.place, self.what = place, what


def invalid_chat(error: ValidationError) -> InvalidChat:
    """Return the first error of a conversation that does not fit its type: unknown keys before wrong values."""
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    return InvalidChat(path_of(first["loc"]), words_of(first))


def conversation(messages: Sequence[BaseModel], prefix: str = "messages", ends_open: bool = False) -> list[Message]:
    """Return checked messages as a conversation. `ends_open` allows the last message's calls to have no results.

    Raises InvalidChat if a result has no call or a call has no result, and if an answer has neither content nor calls.
    """
    found: list[Message] = []
    index = 0
    while index < len(messages):
        place = f"{prefix}[{index}]"
        if isinstance(messages[index], RESULTS):
            raise InvalidChat(place, NO_CALL)
        message = turn(messages[index].model_dump(exclude_none=True), place)
        end = index + 1
        while end < len(messages) and isinstance(messages[end], RESULTS):
            end += 1
        numbers = range(index + 1, end)
        results = {f"{prefix}[{number}]": messages[number].model_dump(exclude_none=True) for number in numbers}
        found.append(message)
        if message.get("tool_calls") and not (ends_open and end == len(messages) and not results):
            found += results_of(message["tool_calls"], results, place)
        elif results:
            raise InvalidChat(next(iter(results)), NO_CALL)
        index = end
    return found


def results_of(calls: Sequence[ToolCall], results: Mapping[str, Mapping[str, Any]], place: str) -> list[Message]:
    """Return the results of the calls at a place, in the order of the calls; `results` are by their own places.

    Templates that write no IDs say by the order which result belongs to which call.
    """
    names = {call["id"]: call["function"]["name"] for call in calls}
    found: dict[str, Message] = {}
    for own_place, result in results.items():
        call_id = result.get("tool_call_id", FORMER_ID)
        if call_id not in names or call_id in found:
            raise InvalidChat(own_place, NO_CALL)
        if result.get("name", names[call_id]) != names[call_id]:
            raise InvalidChat(f"{own_place}.name", f"is not the name of the called function, {names[call_id]!r}")
        found[call_id] = {
            "role": "tool",
            "content": result["content"],
            "name": names[call_id],
            "tool_call_id": call_id,
        }
    missing = [call_id for call_id in names if call_id not in found]
    if missing:
        raise InvalidChat(place, f"has calls without a result: {', '.join(missing)}")
    return [found[call_id] for call_id in names]


def turn(values: Mapping[str, Any], place: str) -> Message:
    """Return a message that is no result of a call."""
    message: Message = {"role": values["role"], "content": values.get("content", "")}
    if "name" in values:
        message["name"] = values["name"]
    if "weight" in values:
        message["weight"] = values["weight"]
    if values["role"] != "assistant":
        return message
    calls = list(values.get("tool_calls", []))
    if "function_call" in values:
        if calls:
            raise InvalidChat(f"{place}.function_call", "is the former form of 'tool_calls', and both are there")
        calls = [{"id": FORMER_ID, "type": "function", "function": values["function_call"]}]
    if len({call["id"] for call in calls}) < len(calls):
        raise InvalidChat(f"{place}.tool_calls", "has two calls with one ID")
    if calls:
        message["tool_calls"] = calls
    elif "content" not in values:
        raise InvalidChat(f"{place}.content", "is missing: a message of the assistant has content or calls")
    return message
