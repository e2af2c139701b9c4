"""The calls of tools in a message as one text, so that answers which are calls are kept and scored as others are."""

import json
from collections.abc import Mapping
from typing import Any


def calls_as_json(message: Mapping[str, Any]) -> str:
    """Return the calls of a message as a JSON list of objects with `name` and `arguments`; "" if it has none.

    They are in their order, without IDs. Arguments are an object with sorted keys where they are the JSON of an object,
    else the text that was written. Some servers write nothing for no arguments, and an empty `function_call` for none.
    """
    calls = message.get("tool_calls")
    calls = [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    called = [call.get("function") or call.get(str(call.get("type"))) for call in calls]
    if not calls and isinstance(one := message.get("function_call"), Mapping) and one.get("name"):
        called = [one]
    found = [call_of(one if isinstance(one, Mapping) else {}) for one in called]
    text = json.dumps(found, ensure_ascii=False) if found else ""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # no file takes halves of letters


def call_of(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name and the arguments of a call; a damaged call stays, so that the list is not right without it."""
    return {"name": one.get("name"), "arguments": one["input"] if "input" in one else read(one.get("arguments"))}


def read(arguments: Any) -> Any:
    """Return the arguments of a call, which are the JSON of an object in a text."""
    try:
        found = json.loads(arguments) if isinstance(arguments, str) and arguments.strip() else arguments or {}
        return json.loads(json.dumps(found, sort_keys=True, allow_nan=False)) if isinstance(found, dict) else arguments
    except (ValueError, RecursionError):
        return arguments
