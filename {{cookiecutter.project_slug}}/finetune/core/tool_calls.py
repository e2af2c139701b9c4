"""The calls of tools in a message as one text, so that answers which are calls are kept and scored as others are."""

import json
from collections.abc import Mapping
from typing import Any


def calls_as_json(message: Mapping[str, Any]) -> str:
    """Return the calls of a message as a JSON list of objects with `name` and `arguments`; "" if it has none.

    They are in their order, without IDs. Arguments are an object where they are valid JSON, else the text that was
    written.
    """
    calls = message.get("tool_calls")
    calls = [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    called = [call.get(str(call.get("type") or "function")) for call in calls] or [message.get("function_call")]
    found = [
        {"name": one.get("name"), "arguments": read(one.get("arguments", one.get("input")))}
        for one in called
        if isinstance(one, Mapping)
    ]
    return json.dumps(found, ensure_ascii=False) if found else ""


def read(arguments: Any) -> Any:
    """Return the arguments of a call, which are a JSON document in a text."""
    try:
        return json.loads(arguments)
    except (TypeError, ValueError, RecursionError):
        return arguments
