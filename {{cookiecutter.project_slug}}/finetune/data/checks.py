"""What a fine-tuning server refuses in a training file, found line by line before anything is sent.

Source of the rules: OpenAI's fine-tuning guide and the errors its server gives (`Example N …`, counted from 1).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

MIN_EXAMPLES = 10
ROLES = ("system", "user", "assistant", "developer", "tool", "function")
EXAMPLE_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
MESSAGE_KEYS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"}
SPECIAL_TOKEN = re.compile(r"<\|(?:endoftext|im_start|im_end|im_sep|fim_prefix|fim_middle|fim_suffix|endofprompt)\|>")


@dataclass(frozen=True)
class Finding:
    """One mistake: a stable code, the line from 1 (0 for the whole file), what is wrong and how to mend it."""

    code: str
    line: int
    message: str
    fix: str


def check_lines(
    lines: list[bytes], count: Callable[[Any], int], context: int | None
) -> tuple[list[Finding], list[int]]:
    """Every finding of a chat-format JSONL file, and the token count of each sound line.

    `count` gives the tokens of an example; `context` is the training context in tokens, None where it is not known.
    """
    findings, tokens = [], []
    for number, line in enumerate(lines, 1):
        found = list(check_line(line, number))
        if not found:
            tokens.append(count(orjson.loads(line)))
            if context is not None and tokens[-1] > context:
                found.append(
                    Finding(
                        "too_long",
                        number,
                        f"{tokens[-1]:,} tokens, over the {context:,} that are trained on; the server cuts the end off",
                        "Shorten the example: its end is the answer.",
                    )
                )
        findings += found
    return findings, tokens


def check_size(split: str, examples: int) -> list[Finding]:
    """The least that a split may hold."""
    if split == "train" and examples < MIN_EXAMPLES:
        what = f"{examples} training examples; a job needs at least {MIN_EXAMPLES}"
        return [Finding("too_few_examples", 0, what, "Add data, or give train a larger share in data.split.")]
    if examples == 0:
        return [Finding("empty_split", 0, f"the {split} split is empty", f"Give {split} a larger share in data.split.")]
    return []


def check_line(line: bytes, number: int) -> Iterator[Finding]:
    """The findings of one line."""
    try:
        example = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        yield Finding("invalid_json", number, f"not valid JSON: {error}", "Mend the line.")
        return
    messages = example.get("messages") if isinstance(example, dict) else None
    if not isinstance(messages, list) or not messages:
        yield Finding("missing_messages", number, "no list of messages", 'Each line is {"messages": [...]}.')
        return
    for key in sorted(set(example) - EXAMPLE_KEYS):
        yield Finding("unknown_key", number, f"the key {key!r} is refused", "Remove it.")
    for index, message in enumerate(messages):
        for code, what, fix in check_message(message):
            yield Finding(code, number, f"message {index}: {what}", fix)
    if not any(isinstance(m, dict) and m.get("role") == "assistant" and m.get("weight", 1) == 1 for m in messages):
        yield Finding("no_assistant", number, "no assistant message to learn from", "Add the answer.")


def check_message(message: Any) -> Iterator[tuple[str, str, str]]:
    """Code, complaint and remedy for each mistake of one message."""
    if not isinstance(message, dict):
        yield "not_a_message", "not an object", 'A message is {"role": ..., "content": ...}.'
        return
    for key in sorted(set(message) - MESSAGE_KEYS):
        yield "unknown_key", f"the key {key!r} is refused", "Remove it."
    role = message.get("role")
    if role not in ROLES:
        yield "unknown_role", f"the role is {role!r}", f"Use one of {', '.join(ROLES)}."
    weight = message.get("weight", 1)
    if weight not in (0, 1) or isinstance(weight, bool):
        yield "bad_weight", f"the weight is {weight!r}", "Use 0 or 1."
    elif "weight" in message and role != "assistant":
        yield "bad_weight", f"a weight on the role {role!r}", "Only assistant messages have one."
    content = message.get("content")
    calls = message.get("tool_calls") or message.get("function_call")
    if content is None and calls and role == "assistant":
        return
    if not isinstance(content, str):
        yield "missing_content", "no text as its content", "Give it a text."
    elif not content.strip():
        yield "empty_content", "its text is empty", "Fill it, or remove the example."
    elif found := SPECIAL_TOKEN.search(content):
        yield "special_token", f"its text holds the special token {found[0]}", "Remove it: servers refuse the file."


def read_lines(path: Path) -> list[bytes]:
    """The lines of a JSONL file without their ends."""
    content = path.read_bytes()
    return content.removesuffix(b"\n").split(b"\n") if content else []
