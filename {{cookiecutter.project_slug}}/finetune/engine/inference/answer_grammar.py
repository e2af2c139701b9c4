"""The grammar of an answer: a JSON object, a JSON Schema, or calls of tools, as a chat completion request asks for.

It is written in llguidance's variant of Lark. Source: its documents `syntax.md` and `json_schema.md`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.grammar_schema import written
from finetune.engine.inference.response_schema import answer_schema
from finetune.engine.inference.tool_grammar import MAX_TOOLS, call_rules, checked_tools, chosen_tools, text_or_calls
from finetune.engine.tool_format import ToolFormat


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
