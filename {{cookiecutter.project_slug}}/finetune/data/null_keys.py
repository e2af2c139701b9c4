"""Find keys that are null: a table such as Parquet writes them into an object that has no such key.

It gives all objects of a column the same keys: {"type": "text", "text": "…", "image_url": null}.
"""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any

import orjson

from finetune.data.json_schemas import schema_fault

# Null is allowed here, or the key is needed: another value belongs there.
KEPT = frozenset({"content", "refusal", "function_call", "strict", "type", "role", "function", "arguments"})
KEPT_IN_SCHEMA = frozenset({"default", "const"})
SCHEMA = "parameters"
# Values under these keys are data of the user, in which null may mean something.
DATA = frozenset({"default", "const", "enum", "examples", "arguments"})


def null_keys(value: Any, path: str = "", in_schema: bool = False) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the path and the value of each object within a value that has a null key, and that key.

    In the JSON Schema of a function, keys are found only if the schema is not valid with them.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if item is None if in_schema else is_null(item):
                if key not in (KEPT_IN_SCHEMA if in_schema else KEPT):
                    yield path, value, key
            elif key == SCHEMA and not in_schema:
                found = list(null_keys(item, f"{path}.{key}", in_schema=True))
                yield from found if found and schema_fault(item) else ()
            elif key not in DATA:
                yield from null_keys(item, f"{path}.{key}", in_schema)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from null_keys(item, f"{path}[{number}]", in_schema)


def is_null(value: Any) -> bool:
    """Return whether a value is null, or an object of null keys only, as some tables write it."""
    return value is None or (isinstance(value, dict) and bool(value) and all(map(is_null, value.values())))


def without_null_keys(value: Any) -> Any:
    """Return a value without the keys that `null_keys` finds; the given one does not change."""
    with suppress(TypeError):  # not from JSON, or too deep: the keys are looked for one by one
        if b"null" not in orjson.dumps(value):
            return value
    if any(True for _ in null_keys(value)):
        value = deepcopy(value)
        for _, holder, key in list(null_keys(value)):
            del holder[key]
    return value
