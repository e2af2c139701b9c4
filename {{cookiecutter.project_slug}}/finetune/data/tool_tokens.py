"""Count the tokens of declared functions, by the formula of OpenAI's cookbook.

A server turns declarations into text in its own way, so their JSON has another number of tokens. The formula counts
names, types, descriptions and enums of properties. Nested properties, which it does not have, count like outer ones.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from finetune.core.records.prepared import Example

FUNCTION_START = {"o200k_base": 7, "o200k_harmony": 7}  # gpt-4o and later
OLDER_FUNCTION_START = 10  # gpt-3.5 and gpt-4
FUNCTIONS_END = 12  # once, after the last function
PROPERTIES_START, PROPERTY = 3, 3
ENUM_START, ENUM_ITEM = -3, 3
BRANCHES = ("anyOf", "oneOf", "allOf")


def functions_of(example: Example) -> list[dict[str, Any]]:
    """Return the functions that an example declares, under `tools` or, as in older examples, under `functions`."""
    return [*(tool["function"] for tool in example.get("tools") or ()), *(example.get("functions") or ())]


def tokens_of_functions(functions: list[dict[str, Any]], encoding: str, length: Callable[[str], int]) -> int:
    """Return the tokens of all declared functions of an example; `length` returns those of a text."""
    start = FUNCTION_START.get(encoding, OLDER_FUNCTION_START)
    tokens = FUNCTIONS_END if functions else 0
    for function in functions:
        line = f"{function['name']}:{without_stop(function.get('description'))}"
        tokens += start + length(line) + schema_tokens(function.get("parameters") or {}, length)
    return tokens


def schema_tokens(schema: dict[str, Any], length: Callable[[str], int]) -> int:
    """Return the tokens of the properties of a JSON Schema, and of what they hold."""
    properties = dict(objects(schema.get("properties")))
    tokens = PROPERTIES_START if properties else 0
    for name, part in properties.items():
        tokens += PROPERTY + length(f"{name}:{type_of(part)}:{without_stop(part.get('description'))}")
        tokens += enum_tokens(part, length)
    inner = [*properties.values(), *inner_schemas(schema)]
    return tokens + sum(schema_tokens(part, length) for part in inner)


def enum_tokens(schema: dict[str, Any], length: Callable[[str], int]) -> int:
    values = schema.get("enum")
    return ENUM_START + sum(ENUM_ITEM + length(text_of(value)) for value in values) if isinstance(values, list) else 0


def inner_schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas of a list's items, of alternatives and of definitions."""
    if isinstance(schema.get("items"), dict):
        yield schema["items"]
    for key in BRANCHES:
        yield from (part for part in schema.get(key) or () if isinstance(part, dict))
    yield from (part for _, part in objects(schema.get("$defs")))


def objects(value: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    return [(name, part) for name, part in value.items() if isinstance(part, dict)] if isinstance(value, dict) else []


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "")
    return "|".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def without_stop(description: Any) -> str:
    """Return a description without its last full stop, which is not sent."""
    return str(description or "").removesuffix(".")
