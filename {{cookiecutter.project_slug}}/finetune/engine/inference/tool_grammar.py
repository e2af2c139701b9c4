"""The part of a grammar that writes calls of tools."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.enforced_schema import enforced_schema
from finetune.engine.inference.grammar_schema import compile_error, written
from finetune.engine.inference.response_schema import checked_name
from finetune.engine.tool_format import ID_PATTERN, ToolFormat

NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
MAX_TOOLS = 128  # and calls in an answer. Source: OpenAI's API reference


class Tool(NamedTuple):
    """A function that an answer may call; `parameters` is the schema of its arguments, `place` its place in `tools`."""

    name: str
    parameters: Mapping[str, Any]
    place: int
    strict: bool


def checked_tools(tools: Sequence[Any]) -> list[Tool]:
    """Return the tools of a request. Raises ApiError for one that is no function with a schema of an object."""
    if len(tools) > MAX_TOOLS:
        message = f"Invalid 'tools': array too long. Expected an array with maximum length {MAX_TOOLS}."
        raise ApiError(400, message, "array_above_max_length", "tools")
    found: list[Tool] = []
    for place, given in enumerate(tools):
        param = f"tools[{place}]"
        kind = given.get("type") if isinstance(given, Mapping) else None
        if kind != "function":
            message = f"Invalid value: {kind!r}. This server supports tools of type 'function'."
            raise ApiError(400, message, "invalid_value", f"{param}.type")
        function = given.get("function")
        if not isinstance(function, Mapping):
            message = f"Missing required parameter: '{param}.function'."
            raise ApiError(400, message, "missing_required_parameter", f"{param}.function")
        name = checked_name(function.get("name"), f"{param}.function.name")
        if name in {tool.name for tool in found}:
            message = f"Invalid '{param}.function.name': two functions have the name '{name}'."
            raise ApiError(400, message, "invalid_value", f"{param}.function.name")
        found.append(Tool(name, function.get("parameters") or NO_PARAMETERS, place, function.get("strict") is True))
    return found


def chosen_tools(tools: list[Tool], choice: Any) -> tuple[list[Tool], str]:
    """Return the tools that may be called, and whether a call is 'none', 'auto' or 'required'."""
    param = "tool_choice"
    if choice in (None, "auto", "none", "required"):
        if choice == "required" and not tools:
            raise ApiError(400, f"'{param}' is only allowed when 'tools' are specified.", "invalid_value", param)
        return tools, "none" if not tools else choice or "auto"
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    inside = choice.get(kind) if isinstance(choice, Mapping) and isinstance(kind, str) else None
    if kind == "function" and isinstance(inside, Mapping):
        return [tool_of_name(tools, inside.get("name"))], "required"
    if kind == "allowed_tools" and isinstance(inside, Mapping) and inside.get("mode") in ("auto", "required"):
        functions = [one.get("function") if isinstance(one, Mapping) else None for one in inside.get("tools") or ()]
        names = [function.get("name") if isinstance(function, Mapping) else None for function in functions]
        return [tool_of_name(tools, name) for name in dict.fromkeys(names)], inside["mode"] if names else "none"
    message = f"Invalid '{param}': it must be 'none', 'auto', 'required', or an object that names functions of 'tools'."
    raise ApiError(400, message, "invalid_value", param)


def tool_of_name(tools: list[Tool], name: Any) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    raise ApiError(400, f"Tool choice {name!r} not found in 'tools' parameter.", "invalid_value", "tool_choice")


def call_schema(tool: Tool, index: int, tool_format: ToolFormat) -> dict[str, Any]:
    """Return the schema of a call of a tool, whose place in the schema of all calls is `/anyOf/{index}`."""
    param = f"tools[{tool.place}].function.parameters"

    def refuse(what: str) -> NoReturn:
        raise ApiError(400, f"Invalid schema for function '{tool.name}': {what}", "invalid_function_parameters", param)

    kind = tool.parameters.get("type") if isinstance(tool.parameters, Mapping) else tool.parameters
    if kind != "object":
        refuse(f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {json.dumps(kind)}'.")
    arguments = tool_format.arguments
    place = f"#/anyOf/{index}/properties/{arguments.replace('~', '~0').replace('/', '~1')}"
    properties: dict[str, Any] = {tool_format.name: {"const": tool.name}}
    properties[arguments] = enforced_schema(tool.parameters, refuse, place, tool.strict)
    if tool_format.id:
        properties[tool_format.id] = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
    found = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    if error := compile_error({"anyOf": [*[False] * index, found]}):
        if tool.strict:
            refuse(error)
        properties[arguments] = {"type": "object"}
    return found


def call_rules(
    tools: list[Tool], tool_format: ToolFormat, most_calls: int, special_tokens: Mapping[str, int]
) -> list[str]:
    """Return the rules `begin`, `rest` (of the begin text) and `calls`."""
    schemas = [call_schema(tool, index, tool_format) for index, tool in enumerate(tools)]
    trigger, rest = split_begin(tool_format, special_tokens)
    more = ""
    if most_calls > 1 and tool_format.separator is not None:
        more = f"({symbols(tool_format.separator, special_tokens)} call){{0,{most_calls - 1}}}"
    return [
        f"begin: {symbols(trigger, special_tokens)}",
        f"rest: {symbols(rest, special_tokens)}",
        f"calls: call {more} {symbols(tool_format.end, special_tokens)}",
        f"call: %json {written({'anyOf': schemas})}",
    ]


def text_or_calls(tool_format: ToolFormat, special_tokens: Mapping[str, int]) -> list[str]:
    """Return the rules of an answer that is text, or calls after text. All after the first begin text is calls.

    A begin text that is no token may stand across tokens: it ends a lazy lexeme, which is never longer than to there.
    """
    trigger, _ = split_begin(tool_format, special_tokens)
    if not trigger:  # a call has no begin text: an answer that begins with { is a call
        return ["start: text | calls", "text: /([^{](?s:.*))?/"]
    if trigger in special_tokens:  # which no text has
        return ["start: text | text begin rest calls", "text: /(?s:.*)/"]
    quoted = quoted_text(trigger)
    return [
        "start: TEXT | text_and_begin rest calls",
        f"text_and_begin[lazy]: /(?s:.*)/ {quoted}",
        f"TEXT: /(?s:.*)/ & ~(/(?s:.*)/ {quoted} /(?s:.*)/)",
    ]


def split_begin(tool_format: ToolFormat, special_tokens: Mapping[str, int]) -> tuple[str, str]:
    """Return what tells a call from text, and the rest of the begin text, which is then forced.

    White space is left to the rest, so that a model that leaves it out still begins a call.
    """
    first = next(iter(parts(tool_format.begin, special_tokens)), "")
    trigger = first if first in special_tokens else first.rstrip() or first
    return trigger, tool_format.begin[len(trigger) :]


def symbols(text: str, special_tokens: Mapping[str, int]) -> str:
    """Return a text as symbols of the grammar: special tokens by their ID, the rest as literals."""
    found = [
        f"<[{special_tokens[part]}]>" if part in special_tokens else quoted_text(part)
        for part in parts(text, special_tokens)
    ]
    return " ".join(found) or '""'


def parts(text: str, special_tokens: Iterable[str]) -> list[str]:
    """Return a text cut into special tokens and what is between them."""
    choices = "|".join(re.escape(token) for token in sorted(special_tokens, key=len, reverse=True))
    return [part for part in re.split(f"({choices})", text) if part] if choices else [text] if text else []


def quoted_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
