"""How a base writes calls of tools, and the default for bases whose chat template knows no tools."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ID_PATTERN = r"[a-zA-Z0-9]{9}"  # of an ID that a template writes; Mistral's refuse all others


@dataclass(frozen=True)
class ToolFormat:
    """How an answer writes calls: `begin`, a JSON object for each call with `separator` between two, `end`.

    An object has the function's name under the key `name`, its arguments (a JSON object) under `arguments`, and, where
    `id` is a key, an ID that fits ID_PATTERN. The defaults are the form of Hermes and Qwen.

    `begin` is what an answer without text starts with; `gap` is between an answer's text and `begin`, and None if an
    answer with calls has no text. `separator` is None if an answer has one call at most. `end` is up to the end of the
    turn, whose own token (`<|im_end|>`) is not in it. Special tokens may be part of them (Mistral's `[TOOL_CALLS]`), so
    decode answers without skipping special tokens before `parse_tool_calls`.

    `native` says that the chat template writes tools, calls and results itself. `arguments_as_text` and
    `empty_content` are what the template needs: the arguments as a JSON text, and the content of an answer without one.
    """

    begin: str = "<tool_call>\n"
    name: str = "name"
    arguments: str = "arguments"
    separator: str | None = "\n</tool_call>\n<tool_call>\n"
    end: str = "\n</tool_call>"
    gap: str | None = "\n"
    id: str | None = None
    native: bool = False
    arguments_as_text: bool = False
    empty_content: str | None = ""


DEFAULT_FORMAT = ToolFormat()  # for bases whose chat template knows no tools
RESULT_BEGIN, RESULT_END = "<tool_response>\n", "\n</tool_response>"
TOOLS_TEXT = """You can call functions. Their signatures are between <tools> and </tools>, one JSON object a line:
<tools>
{tools}
</tools>
To call a function, answer with its name and its arguments as a JSON object between <tool_call> and </tool_call>:
<tool_call>
{"name": "the name of the function", "arguments": {"the name of a parameter": "its value"}}
</tool_call>
To call several functions at once, write several calls. Their results are between <tool_response> and </tool_response>,
in the order of the calls."""


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the part of a system prompt that describes tools, for the default format."""
    lines = [json.dumps(tool, ensure_ascii=False) for tool in tools]
    return TOOLS_TEXT.replace("{tools}", "\n".join(lines), 1)


def calls_text(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return calls, each a name and its arguments, in the default format."""
    form = DEFAULT_FORMAT
    objects = [{form.name: name, form.arguments: arguments} for name, arguments in calls]
    written = [json.dumps(one, ensure_ascii=False) for one in objects]
    return form.begin + (form.separator or "").join(written) + form.end
