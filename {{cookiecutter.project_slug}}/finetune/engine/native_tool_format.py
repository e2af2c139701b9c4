"""Find the format in which a chat template writes calls of tools, by rendering sample conversations."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from finetune.engine.control_tokens import control_tokens, sample_text
from finetune.engine.tool_format import DEFAULT_FORMAT, ToolFormat

# What sample conversations are made of: words that no template has.
USER: dict[str, Any] = {"role": "user", "content": "Uq1"}
IDS = ("000000001", "000000002")
ARGUMENTS = {"Kq1": "Vq1"}
WRITTEN_ARGUMENTS = re.compile(r'\{\s*"Kq1"\s*:\s*"Vq1"\s*\}')
PARAMETERS = {"type": "object", "properties": {"Kq1": {"type": "string", "description": "Pq1"}}, "required": ["Kq1"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "Dq1", "parameters": PARAMETERS}}
    for name in ("Fq1", "Fq2")
]
# The parts of a call as a JSON object, with the words of the sample conversations.
OPENING = re.compile(r'\{\s*"(\w+)"\s*:\s*"$')
BETWEEN = re.compile(r'"\s*,\s*"(\w+)"\s*:\s*')
CLOSING = re.compile(r'\s*(?:,\s*"(\w+)"\s*:\s*"0{8}1"\s*)?\}(.*)', re.DOTALL)
BETWEEN_CALLS = re.compile(r'\s*(?:,\s*"\w+"\s*:\s*"0{8}1"\s*)?\}(.*?)\{\s*"\w+"\s*:\s*"Fq2', re.DOTALL)


@lru_cache(maxsize=8)
def tool_format_of(tokenizer: Any) -> ToolFormat:
    """Return how the chat template of a base writes calls; DEFAULT_FORMAT where it does not, or not as JSON."""
    for as_text in (False, True):
        for empty in ("", None):
            found = native_format(tokenizer, as_text, empty)
            if found:
                return found
    return DEFAULT_FORMAT


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
