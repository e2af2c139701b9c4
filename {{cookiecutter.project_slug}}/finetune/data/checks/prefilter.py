"""Choose the rules to ask about each line, in a microsecond or two; most lines break no rule and need none.

Only a rule that declares that it may be skipped is skipped (see rule.py). Rules are skipped only for simple chat:
messages of system, user and assistant with nothing but a role, a text without white space at its end, and a weight of 0
or 1, in which user and assistant take turns, the last message is the assistant's, and at least one is trained on.
tests/test_prefilter.py proves that the findings are the same with the prefilter and without.
"""

from typing import Any

from finetune.core.records.prepared import Example
from finetune.data.checks.line_block import LineBlock
from finetune.data.checks.rule import Rule
from finetune.data.checks.rules import RULES
from finetune.data.examples import TurnTexts


def simple_chat_texts(example: Example) -> TurnTexts | None:
    """Return the turn texts of simple chat, None for any other example."""
    messages = example.get("messages")
    if len(example) != 1 or type(messages) is not list:
        return None
    texts: list[str] = []
    trained, system, role = False, None, None
    for message in messages:
        if type(message) is not dict:
            return None
        before: Any = role
        role, content = message.get("role"), message.get("content")
        if type(content) is not str or not content or content[-1].isspace():
            return None
        if role == "user" or role == "assistant":
            if role == before:
                return None
            texts.append(content)
        elif (role == "system" or role == "developer") and system is None:
            system = content
        else:
            return None
        if len(message) == 2:
            trained = trained or role == "assistant"
        elif len(message) != 3 or role != "assistant" or type(message.get("weight")) is not int:
            return None
        elif message["weight"] == 1:
            trained = True
        elif message["weight"] != 0:
            return None
    return (texts, system) if trained and role == "assistant" else None


def rules_to_ask(block: LineBlock) -> list[list[Rule]]:
    """Return for each line of a block the rules that its example may break if it is simple chat."""
    rules = [rule for rule in RULES if "chat" in rule.shapes and not rule.simple_chat_passes]
    found = [[rule for rule in rules if rule.lines_to_ask is None]] * len(block.lines)
    for rule in rules:
        if rule.lines_to_ask is not None:
            for number in set(rule.lines_to_ask(block)):
                found[number] = [*found[number], rule]
    for number in lines_with_escapes(block):
        found[number] = rules
    return found


def lines_with_escapes(block: LineBlock) -> list[int]:
    """Return the numbers of the lines with other escapes than those of line breaks and quotation marks.

    Tests of bytes do not see what such an escape stands for.
    """
    lines = block.lines
    return [n for n in block.lines_with(b"\\") if b"\\" in lines[n].replace(b"\\n", b"").replace(b'\\"', b"")]


def may_break(rule: Rule, example: Example, texts: TurnTexts) -> bool:
    """Return whether a rule finds something in simple chat with these texts."""
    if rule.find_in is None:
        return any(True for _ in rule.find(example))
    turns, system = texts
    return any(map(any, map(rule.find_in, turns))) or any(rule.find_in(system or ""))
