"""Read the calls of tools in an answer, by the format in which the base writes them."""

import json
import re
from collections.abc import Collection
from typing import Any

from typing_extensions import TypedDict

from finetune.engine.ids import new_id
from finetune.engine.tool_format import ToolFormat

NAME = r"[a-zA-Z0-9_-]{1,64}"  # OpenAI's pattern of a function's name
SPACES = r"[\s\x1c-\x1f]*"  # `regex` does not count these four as white space; `re` and `str.strip` do


class CalledFunction(TypedDict):
    """The function of a call; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call in OpenAI's form."""

    id: str
    type: str
    function: CalledFunction


def parse_tool_calls(
    form: ToolFormat, text: str, names: Collection[str] | None = None
) -> tuple[str | None, list[ToolCall]]:
    """Return the text of an answer before its calls (None if there is none), and its calls in OpenAI's form.

    White space between the parts of a call may differ from the format's. What is no valid call up to the end of the
    answer is text, and so is a call of a function that is not in `names`, if they are given.
    """
    begin = re.compile(call_start(form))
    for start in begin.finditer(text):
        if form.gap is None and text[: start.start()].strip():
            break
        calls = read_calls(form, text, start.end() - 1)
        if calls and (names is None or all(call["function"]["name"] in names for call in calls)):
            before = text[: start.start()].removesuffix(form.gap or "")
            return (before if before.strip() else None), calls
    return text, []


def read_calls(form: ToolFormat, text: str, place: int) -> list[ToolCall] | None:
    """Return the calls whose first object is at a place of the text; None unless they go on to its end."""
    separator = re.compile(SPACES + loose(form.separator)) if form.separator is not None else None
    end = re.compile(SPACES + loose(form.end) + r"\Z")
    calls: list[ToolCall] = []
    while True:
        try:
            found, place = json.JSONDecoder(parse_constant=refuse_constant).raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        call = read_call(form, found)
        if call is None:
            return None
        calls.append(call)
        if end.match(text, place):
            return calls
        another = separator.match(text, place) if separator else None
        if not another:
            return None
        place = another.end()


def read_call(form: ToolFormat, found: Any) -> ToolCall | None:
    """Return a call that was read from an answer in OpenAI's form, with a new ID; None if it is no call."""
    keys = {form.name, form.arguments}
    if not isinstance(found, dict) or not keys <= set(found) <= keys | {form.id}:
        return None
    name, arguments = found[form.name], found[form.arguments]
    if not isinstance(name, str) or not re.fullmatch(NAME, name) or not isinstance(arguments, dict):
        return None
    function: CalledFunction = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": new_id("call_"), "type": "function", "function": function}


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def loose(text: str) -> str:
    """Return a pattern for a part of a format, with any white space where it has some, and beside its punctuation."""
    tokens = re.findall(r"\w+|[^\w\s]", text)
    return "".join(re.escape(token) + SPACES for token in tokens)


def call_start(form: ToolFormat) -> str:
    """Return a pattern for the beginning of calls, up to the bracket that opens the first object."""
    return loose(form.begin) + r"\{"


def sure_length(form: ToolFormat, text: str) -> int:
    """Return how many first characters of an unfinished answer are text for certain: no call can begin in them."""
    import regex  # finds also the first part of a match at the end of the text

    if form.gap is None:  # calls can only begin where the answer does
        return 0 if regex.match(SPACES + call_start(form), text, partial=True) else len(text)
    found = regex.search(f"(?:{re.escape(form.gap)})?{call_start(form)}", text, partial=True)
    return found.start() if found else len(text)
