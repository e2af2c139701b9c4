"""Read the JSON of an answer, strictly or leniently, and bring JSON into a form in which it is compared.

Strict is what RFC 8259 allows, with every key once: what a program reads without help. Lenient is also JSON in a
sentence, in a code block or after what the model thinks, with commas at the end of lists and objects, or with a
repeated key, whose last value counts.
"""

import json
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import regex

from finetune.scoring.thoughts import without_thoughts

TEXT = r'"(?:\\.|[^"\\])*+"'
BRACKET = regex.compile(rf"{TEXT}|[\[\]{{}}]", regex.S)
LAST_COMMA = regex.compile(rf"({TEXT})|(?<![\[{{,]\s{{0,9}}),(?=\s*[\]}}])", regex.S)
CHECKBOX = "[ ]"  # of a Markdown list; an empty list only where it is alone
ANY_BRACKET = regex.compile(r"[\[\]{}]")
DEEPEST = 100  # lists and objects in each other; Python's own limit depends on where it is called
Pairs = list[tuple[str, Any]]


class FoundJson(NamedTuple):
    """A list or object in an answer; its place is that after what the model thinks."""

    value: Any
    text: str
    start: int
    end: int
    is_whole: bool  # nothing is around it but white space


def strict_json(text: str) -> Any:
    """Return the list or object that a whole text is, with exact numbers; None if it is none, or no strict JSON."""
    return parsed(text, unique_keys)


def json_in(text: str) -> Any:
    """Return the list or object in a text, read leniently; None if there is none, or if there are several."""
    found = found_json(text)
    return json.loads(found.text) if found else None


def found_json(text: str) -> FoundJson | None:
    """Find the list or object in a text; None if there is none, or if there are several that differ.

    Objects go before lists, and other lists before lists of nothing but numbers, because brackets in sentences are
    also citations and notes: `[1]`. What is inside a bracket that is never closed, or is no JSON, is not looked at: it
    is a part of something, not the answer.
    """
    if parsed(text) is None:
        text = without_thoughts(text)
    found: list[FoundJson] = []
    for start, end in brackets(text):
        written = text[start:end]
        if written == CHECKBOX != text.strip():
            continue
        for form in (written, LAST_COMMA.sub(r"\1", written)):
            if (value := parsed(form)) is not None:
                found.append(FoundJson(value, form, start, end, text.strip() == written))
                break
    highest = max((rank(one.value) for one in found), default=0)
    best = [one for one in found if rank(one.value) == highest]
    return best[0] if best and all(same(best[0].value, one.value) for one in best) else None


def rank(value: Any) -> int:
    if isinstance(value, dict):
        return 2
    return int(not value or not all(isinstance(member, (int, Decimal)) for member in value))


def brackets(text: str) -> list[tuple[int, int]]:
    """Return where brackets begin and end that are in no other bracket; [] if an object at the end is never closed."""
    found: list[tuple[int, int]] = []
    depth = start = position = 0
    # Quotes count only inside brackets, because sentences have single ones.
    while match := (BRACKET if depth else ANY_BRACKET).search(text, position):
        position = match.end()
        if match[0] in "[{":
            start = match.start() if depth == 0 else start
            depth += 1
        elif match[0] in "]}" and depth:
            depth -= 1
            if depth == 0:
                found.append((start, position))
    return [] if depth and text[start] == "{" else found


def parsed(text: str, pairs: Callable[[Pairs], Any] | None = None) -> Any:
    """Return a list or object, with exact numbers; None if the text is neither, or nests too deeply."""
    if not text.lstrip().startswith(("[", "{")) or is_too_deep(text):
        return None
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=refuse, object_pairs_hook=pairs)
    except (ValueError, ArithmeticError):
        return None
    return value if isinstance(value, (list, dict)) else None


def is_too_deep(text: str) -> bool:
    depth = 0
    for match in BRACKET.finditer(text):
        depth += (match[0] in "[{") - (match[0] in "]}")
        if depth > DEEPEST:
            return True
    return False


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def unique_keys(pairs: Pairs) -> dict[str, Any]:
    """Return an object. Raises ValueError if it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def scalars_in(value: Any) -> list[str]:
    """Return the texts, numbers and other single values in lists and objects, as texts."""
    waiting, found = [value], list[str]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, (list, dict)):
            waiting += one.values() if isinstance(one, dict) else one
        else:
            found.append(one if isinstance(one, str) else canonical(one))
    return found


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same: numbers by value, texts as they are written."""
    return canonical(one) == canonical(other)


def canonical(value: Any, fold: Callable[[str], str] = str) -> str:
    """Return a JSON value as a text that is the same for the same value; `fold` is applied to texts, but not to keys.

    Numbers are the same by their exact value: 2, 2.0 and 20e-1, and 0 and -0. The text "2" is no number, and true is
    not 1. The order of keys is ignored (RFC 8259), the order of lists is not.
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{canonical(value[key], fold)}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(member, fold) for member in value) + "]"
    if isinstance(value, str):
        return json.dumps(fold(value))
    return json.dumps(value) if value is None or isinstance(value, bool) else number_text(Decimal(value))


def number_text(number: Decimal) -> str:
    """Return a number as a text that is the same for the same value, such as 2 for 2.0, and 12e5 for 1200000."""
    if not number:
        return "0"
    sign, digits, exponent = number.as_tuple()
    written = "".join(map(str, digits)).lstrip("0")
    short = written.rstrip("0")
    power = int(exponent) + len(written) - len(short)
    return "-" * sign + short + (f"e{power}" if power else "")


def folded(text: str) -> str:
    """Return a text without case, without white space around it, and with its letters composed."""
    return unicodedata.normalize("NFC", text.strip().casefold())
