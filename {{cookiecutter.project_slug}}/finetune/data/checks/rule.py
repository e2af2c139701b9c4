"""The registry of the rules on one example; rules/ has the rules.

A rule is asked about every example of its shapes, unless it declares a cheap test that excludes an example: a rule
without such a declaration is always asked.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

from finetune.core.records.prepared import Example
from finetune.data.checks.line_block import LineTest
from finetune.data.examples import Shape, texts_of, texts_of_functions

Severity = Literal["error", "warning"]
Found = Iterator[tuple[str, str]]  # what is wrong, and how to fix it


@dataclass(frozen=True)
class Rule:
    """A check of one example. `find` raises for no example."""

    code: str
    severity: Severity
    shapes: tuple[Shape, ...]
    find: Callable[[Example], Found]
    find_in: Callable[[str], Found] | None = None  # of a rule on texts: the check of one text
    of_functions: bool = False  # of a rule on texts: it is also asked about arguments of calls and declared functions
    simple_chat_passes: bool = False  # simple chat (see prefilter.py) cannot break the rule
    lines_to_ask: LineTest | None = None  # simple chat can break the rule on these lines only


RULES: list[Rule] = []
JSON_TYPES: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}


def rule(
    code: str,
    severity: Severity = "error",
    shapes: tuple[Shape, ...] = ("chat", "preference"),
    *,
    simple_chat_passes: bool = False,
) -> Callable[[Callable[[Example], Found]], Callable[[Example], Found]]:
    """Register a function of an example as a rule.

    `simple_chat_passes` declares that simple chat cannot break the rule (see prefilter.py), which saves the call there.
    """

    def register(find: Callable[[Example], Found]) -> Callable[[Example], Found]:
        RULES.append(Rule(code, severity, shapes, find, simple_chat_passes=simple_chat_passes))
        return find

    return register


def text_rule(
    code: str,
    severity: Severity = "error",
    shapes: tuple[Shape, ...] = ("chat", "completion", "preference"),
    *,
    of_functions: bool = False,
    simple_chat_passes: bool = False,
    lines_to_ask: LineTest | None = None,
) -> Callable[[Callable[[str], Found]], Callable[[str], Found]]:
    """Register a function of one text as a rule; its messages follow the path of the text.

    A rule `of_functions` is also asked about the arguments of calls and the declared functions.
    `lines_to_ask` declares which lines of simple chat can break the rule. The test reads texts as they are in JSON: a
    line break is `\\n` there and a quotation mark `\\"`; lines with other escapes are always asked about.
    """

    def register(find_in: Callable[[str], Found]) -> Callable[[str], Found]:
        def find(example: Example) -> Found:
            yield from found_in(texts_of(example), find_in)
            if of_functions:
                yield from found_in(texts_of_functions(example), partial(remembered, find_in))

        RULES.append(Rule(code, severity, shapes, find, find_in, of_functions, simple_chat_passes, lines_to_ask))
        return find_in

    return register


def found_in(texts: Iterable[tuple[str, str]], find_in: Callable[[str], Iterable[tuple[str, str]]]) -> Found:
    """Yield what the check of one text finds in texts, which come with their paths."""
    for path, text in texts:
        for what, fix in find_in(text):
            yield f"{path} {what}", fix


@lru_cache(1_000)  # most examples declare the same functions
def remembered(find_in: Callable[[str], Found], text: str) -> tuple[tuple[str, str], ...]:
    """Return what the check of one text finds."""
    return tuple(find_in(text))


def describe(value: Any) -> str:
    """Return a value for a message: numbers, booleans and null as JSON, anything else as its JSON type."""
    return JSON_TYPES.get(type(value)) or json.dumps(value)
