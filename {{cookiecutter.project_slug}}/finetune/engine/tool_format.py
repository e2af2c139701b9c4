"""How a base writes calls of tools: read from its chat template, or a default where the template knows no tools.

Training and chat write the same text for a call, and `parse_tool_calls` reads it from an answer.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from typing_extensions import TypedDict

from finetune.engine.control_tokens import control_tokens, sample_text
from finetune.engine.ids import new_id

NAME = r"[a-zA-Z0-9_-]{1,64}"  # OpenAI's pattern of a function's name
ID_PATTERN = r"[a-zA-Z0-9]{9}"  # of an ID that a template writes; Mistral's refuse all others
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


@lru_cache(maxsize=8)
def tool_format_of(tokenizer: Any) -> ToolFormat:
    """Return how the chat template of a base writes calls; DEFAULT_FORMAT where it does not, or not as JSON."""
    for as_text in (False, True):
        for empty in ("", None):
            found = native_format(tokenizer, as_text, empty)
            if found:
                return found
    return DEFAULT_FORMAT


USER: dict[str, Any] = {"role": "user", "content": "Uq1"}
IDS = ("000000001", "000000002")
ARGUMENTS = {"Kq1": "Vq1"}
WRITTEN_ARGUMENTS = re.compile(r'\{\s*"Kq1"\s*:\s*"Vq1"\s*\}')
PARAMETERS = {"type": "object", "properties": {"Kq1": {"type": "string", "description": "Pq1"}}, "required": ["Kq1"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "Dq1", "parameters": PARAMETERS}}
    for name in ("Fq1", "Fq2")
]


def native_format(tokenizer: Any, as_text: bool, empty: str | None) -> ToolFormat | None:
    """Return the format that a chat template writes, found by the words of sample conversations.

    Returns None unless it writes tools, their results, and calls with arguments in JSON.
    """
    arguments = json.dumps(ARGUMENTS) if as_text else ARGUMENTS

    def answer(content: str | None, *names: str) -> dict[str, Any]:
        calls = [
            {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, name in zip(IDS, names, strict=False)
        ]
        return {"role": "assistant", "content": content, "tool_calls": calls}

    result = {"role": "tool", "content": "Rq1", "tool_call_id": IDS[0], "name": "Fq1"}
    prompt = sample_text(tokenizer, [USER], tools=TOOLS, add_generation_prompt=True)
    last = sample_text(tokenizer, [USER, answer(empty, "Fq1")], tools=TOOLS)
    followed = sample_text(tokenizer, [USER, answer(empty, "Fq1"), result], tools=TOOLS)
    if not all(word in prompt for word in ("Fq1", "Fq2", "Dq1", "Pq1")) or "Rq1" not in followed:
        return None
    # The template may write more before the last answer of all (empty thoughts).
    first = call_after(prompt, followed) or call_after(prompt, last)
    final = call_after(prompt, last)
    if not first or not final:
        return None
    both = call_after(prompt, sample_text(tokenizer, [USER, answer(empty, "Fq1", "Fq2")], tools=TOOLS))
    with_text = call_after(prompt, sample_text(tokenizer, [USER, answer("Cq1", "Fq1")], tools=TOOLS))
    opening, keys = OPENING.search(first.begin), BETWEEN.fullmatch(final.between)
    closing = CLOSING.match(without_turn_end(tokenizer, final.after))
    if not opening or not keys or not closing:
        return None
    following = BETWEEN_CALLS.match(both.after) if both else None
    gap = with_text.begin.partition("Cq1")[2] if with_text and "Cq1" in with_text.begin else ""
    return ToolFormat(
        begin=first.begin[: opening.start()],
        name=opening[1],
        arguments=keys[1],
        separator=following[1] if following else None,
        end=closing[2],
        gap=gap.removesuffix(first.begin) if gap.endswith(first.begin) else None,
        id=closing[1],
        native=True,
        arguments_as_text=as_text,
        empty_content=empty,
    )


# The parts of a call as a JSON object, with the words of the sample conversations.
OPENING = re.compile(r'\{\s*"(\w+)"\s*:\s*"$')
BETWEEN = re.compile(r'"\s*,\s*"(\w+)"\s*:\s*')
CLOSING = re.compile(r'\s*(?:,\s*"(\w+)"\s*:\s*"0{8}1"\s*)?\}(.*)', re.DOTALL)
BETWEEN_CALLS = re.compile(r'\s*(?:,\s*"\w+"\s*:\s*"0{8}1"\s*)?\}(.*?)\{\s*"\w+"\s*:\s*"Fq2', re.DOTALL)


@dataclass(frozen=True)
class WrittenCall:
    """The text around the name and the arguments of a call: before, between and after them."""

    begin: str
    between: str
    after: str


def call_after(prompt: str, rendered: str) -> WrittenCall | None:
    """Return the first call after the prompt in a rendered conversation; None if it does not go on from the prompt."""
    if not rendered.startswith(prompt):
        return None
    begin, is_there, rest = rendered[len(prompt) :].partition("Fq1")
    written = WRITTEN_ARGUMENTS.search(rest)
    if not is_there or not written or "Fq1" in rest[: written.start()]:
        return None
    return WrittenCall(begin, rest[: written.start()], rest[written.end() :])


def without_turn_end(tokenizer: Any, text: str) -> str:
    """Return what a template writes after the last call, without what it writes after each answer."""
    answer = {"role": "assistant", "content": "Aq1"}
    after_answer = sample_text(tokenizer, [USER, answer], tools=TOOLS).partition("Aq1")[2]
    if after_answer and text.endswith(after_answer):
        return text.removesuffix(after_answer)
    control = control_tokens(tokenizer)  # another token ends a turn with calls (Llama's <|eom_id|>)
    ends = [found.start() for found in control.pattern.finditer(text)] if control else []
    return text[: ends[-1]] if ends else text.rstrip()
