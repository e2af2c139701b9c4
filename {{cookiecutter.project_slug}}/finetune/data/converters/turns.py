"""Convert turns to messages: those of OpenAI, and those of ShareGPT, with the keys `from` and `value`."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import orjson

from finetune.core.records.prepared import Example
from finetune.data.converters.values import as_list, has_value, nonempty_text
from finetune.data.examples import KEYS, SYSTEM_ROLES
from finetune.data.null_keys import is_null, without_null_keys
from finetune.data.prompts import cell_text
from finetune.data.raw_file import Row
from finetune.data.written_numbers import parse_json

Message = dict[str, Any]
# The role of each speaker. A call is an assistant's message with `tool_calls`.
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "call",
    "observation": "tool",
    "tool": "tool",
}
TRAINED = frozenset({"loss", "train", "training"})  # each says whether a turn counts in the loss
TURN_KEYS = {"from", "value", "weight", *TRAINED}
FALSE = ("false", "0", "0.0")
REFUSED_IN_TURNS = ("image", "images", "audio", "audios", "video", "videos")
SETTINGS = sorted(KEYS["chat"] - {"messages"})


def chat_example(row: Row, messages: list[Message]) -> Example:
    """Return a chat example of messages and a row's system prompt, tools and the like."""
    found: Example = {"messages": with_system(row, messages)}
    for key in SETTINGS:
        if key in row and has_value(row[key]):
            value = row[key] if key == "parallel_tool_calls" else as_functions(row[key], key)
            found |= {key: value} if has_value(value) else {}
    return found


def with_system(row: Row, messages: list[Message]) -> list[Message]:
    """Return messages after the row's own system prompt, if it has one. Raises ValueError for two different ones."""
    prompts = [row[key] for key in ("system", "system_prompt") if key in row and has_value(row[key])]
    if not prompts:
        return messages
    prompts = [nonempty_text(prompt, "system") for prompt in prompts]
    if messages and messages[0].get("role") in SYSTEM_ROLES:
        prompts.append(messages[0].get("content"))
        messages = messages[1:]
    if any(prompt != prompts[0] for prompt in prompts):
        raise ValueError("the row has two different system prompts: keep one")
    return [{"role": "system", "content": prompts[0]}, *messages]


def as_functions(value: object, name: str) -> list[Any]:
    """Return a list of tools without null keys; a bare function becomes the tool that holds it.

    `functions` are bare already.
    """
    tools: list[Any] = without_null_keys(as_list(value, name))
    if name == "functions":
        return tools
    return [{"type": "function", "function": one} if is_bare_function(one) else one for one in tools]


def is_bare_function(tool: object) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("name"), str) and not tool.keys() & {"type", "function"}


def messages_of_turns(turns: list[Any], name: str) -> list[Message]:
    """Return turns as messages. Raises ValueError naming what cannot be converted."""
    numbers, waiting = count(1), list[str]()  # the number of each call, and the IDs of calls without a result
    messages = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise ValueError(f"{name} has an entry that is not an object")
        if is_of_speaker(turn):
            messages.append(from_speaker(turn, numbers, waiting))
        else:
            messages.append(without_nulls(turn if TRAINED.isdisjoint(turn) else with_weight(turn)))
    return messages


def without_nulls(message: Message) -> Message:
    """Return a message without keys that are null or an empty list, also in its parts and calls."""
    if all(isinstance(value, str) for value in message.values()):  # the common case
        return message
    return {
        key: without_null_keys(value)
        for key, value in message.items()
        if key == "content" or not (is_null(value) or value == [])
    }


def from_speaker(turn: Message, numbers: "count[int]", waiting: list[str]) -> Message:
    """Return a turn of ShareGPT as a message. `waiting` has the IDs of the calls before it that have no result."""
    speaker = turn["from"]
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise ValueError(f"a turn's 'from' is not one of {', '.join(SPEAKERS)}")
    for key in REFUSED_IN_TURNS:
        if has_value(turn.get(key)):
            raise ValueError(f"a turn has the key {key!r}: write such rows as `messages`, with parts of the content")
    message = message_of(SPEAKERS[speaker], turn["value"], numbers, waiting)
    return with_weight({**message, **{key: turn[key] for key in ("weight", *TRAINED) if has_value(turn.get(key))}})


def with_weight(message: Message) -> Message:
    """Return a message with the weight 0 where one of its keys says that it does not count in the loss.

    Only answers are trained, so other messages need no weight 0.
    """
    weight = message.get("weight")
    if weight is None and is_marked_untrained(message):
        weight = 0
    found = {key: value for key, value in message.items() if key not in TRAINED and key != "weight"}
    is_needless = weight is None or (weight == 0 and message.get("role") != "assistant")
    return found if is_needless else {**found, "weight": weight}


def is_marked_untrained(turn: Message) -> bool:
    """Return whether a turn says, in the words of training programs, that it is not trained on."""
    return any(is_false(turn.get(key)) for key in TRAINED)


def is_false(value: object) -> bool:
    return cell_text(value).strip().lower() in FALSE


def message_of(role: str, value: Any, numbers: "count[int]", waiting: list[str]) -> Message:
    """Return the message of a turn with this role and value."""
    if role == "call":
        calls = calls_in(value, numbers)
        waiting += [call["id"] for call in calls]
        return {"role": "assistant", "tool_calls": calls}
    if role == "tool":
        if not waiting:
            raise ValueError("a turn is the result of a function, but no function_call is before it")
        return {"role": "tool", "tool_call_id": waiting.pop(0), "content": cell_text(value)}
    return {"role": role, "content": nonempty_text(value, "a turn")}


def calls_in(value: Any, numbers: "count[int]") -> list[dict[str, Any]]:
    """Return the tool calls of a turn: one call or a list, each with a name and arguments, also as JSON text."""
    try:
        found = parse_json(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        raise ValueError("the value of a function_call is not JSON") from None
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise ValueError("a function_call has no name")
    return [
        {
            "id": f"call_{next(numbers)}",
            "type": "function",
            "function": {"name": call["name"], "arguments": cell_text(call.get("arguments") or {})},
        }
        for call in calls
    ]


def unused_turn_keys(turns: object, name: str) -> Iterator[str]:
    """Yield each key of ShareGPT's turns that is not converted, once. Other messages are kept with all keys."""
    spoken = [turn for turn in as_list(turns, name) if is_of_speaker(turn)]
    found = {key for turn in spoken for key in turn.keys() - TURN_KEYS if has_value(turn[key])}
    yield from sorted(f"{name}.{key}" for key in found)


def is_of_speaker(turn: Message) -> bool:
    """Return whether a turn is one of ShareGPT, which names its speaker and not a role."""
    return "from" in turn and not turn.get("role")
