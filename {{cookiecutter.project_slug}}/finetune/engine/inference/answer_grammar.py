"""The grammar of an answer: a JSON object, a JSON Schema, or calls of tools, as a chat completion request asks for.

It is written in llguidance's variant of Lark. Source: its documents `syntax.md` and `json_schema.md`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.enforced_schema import MAX_MESSAGE, enforced_schema, type_alone
from finetune.engine.tool_format import ID_PATTERN, ToolFormat

MAX_TOOLS = 128  # and calls in an answer. Source: OpenAI's API reference
NAME = re.compile("[a-zA-Z0-9_-]{1,64}")
NAME_RULE = "a-z, A-Z, 0-9, '_' and '-', 1 to 64 characters"
NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}

# A place between two parts of JSON has nothing, one space, or a line break with an indentation, so that a model writes
# JSON as it was trained to (compact, as json.dumps does, or on several lines) but cannot write white space without end.
WHITE_SPACE = r"( |\r?\n[ \t]{0,40})?"


class Tool(NamedTuple):
    """A function that an answer may call; `parameters` is the schema of its arguments, `place` its place in `tools`."""

    name: str
    parameters: Mapping[str, Any]
    place: int
    strict: bool


def grammar_of(
    response_format: Mapping[str, Any] | None,
    tools: Sequence[Any] | None = None,
    tool_choice: Any = None,
    parallel_tool_calls: bool | None = True,
    tool_format: ToolFormat | None = None,
    special_tokens: Mapping[str, int] | None = None,
) -> str | None:
    """Return the grammar of a chat completion's answer; None if all answers are allowed.

    Raises ApiError for what is invalid, and for a strict schema that cannot be enforced completely. `tool_format` is
    None for a base that calls no tools; `special_tokens` are those of the vocabulary. Many requests ask for the same:
    the last grammars are kept.
    """
    form = asdict(tool_format) if tool_format else None
    arguments = (response_format, tools, tool_choice, parallel_tool_calls, form, special_tokens)
    try:
        return written_grammar(json.dumps(arguments))
    except RecursionError:
        raise ApiError(400, "The request has too many levels of nesting.", "invalid_value") from None


@lru_cache(64)
def written_grammar(arguments: str) -> str | None:
    """Return the grammar for the arguments of `grammar_of` as JSON."""
    response_format, tools, tool_choice, parallel_tool_calls, texts, special_tokens = json.loads(arguments)
    schema = answer_schema(response_format)
    callable_tools, choice = chosen_tools(checked_tools(tools or ()), tool_choice)
    rules = [] if schema is None else [f"answer: %json {written(schema)}"]
    if choice == "none":
        return "\n".join(["start: answer", *rules, ""]) if rules else None
    if texts is None:
        raise ApiError(400, "The chat template of this model has no calls of tools.", "unsupported_parameter", "tools")
    tool_format, specials = ToolFormat(**texts), special_tokens or {}
    # A named function is called once, as at OpenAI: a weak model would repeat it.
    is_named = isinstance(tool_choice, dict) and tool_choice.get("type") == "function"
    most_calls = 1 if parallel_tool_calls is False or is_named else MAX_TOOLS
    if choice == "auto" and schema is None:
        rules += text_or_calls(tool_format, specials)
    else:
        rules.insert(0, "start: begin rest calls" if choice == "required" else "start: answer | begin rest calls")
    return "\n".join([*rules, *call_rules(callable_tools, tool_format, most_calls, specials), ""])


# The response format


def answer_schema(response_format: Mapping[str, Any] | None) -> Any:
    """Return the schema of the answer, as the compiler gets it; None if the answer is text."""
    if response_format is None:
        return None
    kind = response_format.get("type")
    refuse_unknown(response_format, {"type", *(["json_schema"] if kind == "json_schema" else [])}, "response_format")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        message = f"Invalid value: {kind!r}. Supported values are: 'json_object', 'json_schema', and 'text'."
        raise ApiError(400, message, "invalid_value", "response_format.type")
    param = "response_format.json_schema"
    given = response_format.get("json_schema")
    if not isinstance(given, Mapping):
        raise ApiError(400, f"Missing required parameter: '{param}'.", "missing_required_parameter", param)
    refuse_unknown(given, {"name", "description", "schema", "strict"}, param)
    name = checked_name(given.get("name"), f"{param}.name")
    schema = given.get("schema")
    if schema is None:
        return {"type": "object"}

    def refuse(what: str) -> NoReturn:
        raise ApiError(400, f"Invalid schema for response_format '{name}': {what}", "invalid_json_schema", param)

    if not isinstance(schema, Mapping):
        refuse("it must be an object.")
    strict = given.get("strict") is True
    enforced = enforced_schema(schema, refuse, strict=strict)
    if error := compile_error(enforced):
        return refuse(error) if strict else type_alone(schema)
    return enforced


def refuse_unknown(given: Mapping[str, Any], known: set[str], param: str) -> None:
    """Raise ApiError for a key that would have no effect. Null stands for a key that is not there."""
    for key in sorted(key for key, value in given.items() if key not in known and value is not None):
        message = f"This server does not support '{param}.{key}' here."
        raise ApiError(400, message, "unsupported_parameter", f"{param}.{key}")


def checked_name(name: Any, param: str) -> str:
    if name is None:
        raise ApiError(400, f"Missing required parameter: '{param}'.", "missing_required_parameter", param)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ApiError(400, f"Invalid '{param}': it must be a string of {NAME_RULE}.", "invalid_value", param)
    return name


def compile_error(schema: Any) -> str | None:
    """Return why llguidance does not compile a schema; None if it does."""
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(f"start: %json {written(schema)}\n")
    if not failed and not messages:
        return None
    what = messages[0].partition("failed to compile JSON schema: ")[2] or messages[0]
    if what.startswith("oneOf "):
        what = "the options of a 'oneOf' do not clearly exclude each other; use 'anyOf'"
    return f"This server cannot enforce it: {first_line(what)}."


def first_line(text: str) -> str:
    return text.partition("\n")[0][:MAX_MESSAGE]


def written(schema: Any) -> str:
    """Return a schema as JSON, with the rules of how its answers are written."""
    if isinstance(schema, bool):
        schema = {"allOf": [schema]}
    guidance = {"whitespace_pattern": WHITE_SPACE}
    return json.dumps({"x-guidance": guidance, **schema})


# Tools


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
