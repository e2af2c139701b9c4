"""Find keys that are null: a table such as Parquet writes them into an object that has no such key.

It gives all objects of a column the same keys: {"type": "text", "text": "…", "image_url": null}.
"""

from collections.abc import Iterator
from typing import Any

MAY_BE_NULL = frozenset({"content", "refusal", "function_call", "strict", "default", "const"})
# Values under these keys are data of the user, in which null may mean something.
NOT_SEARCHED = frozenset({"default", "const", "enum", "examples", "arguments"})


def is_null(value: Any) -> bool:
    """Return whether a value is null, or an object of null keys only, as some tables write it."""
    if isinstance(value, dict) and value:
        return all(key not in MAY_BE_NULL and is_null(item) for key, item in value.items())
    return value is None


def null_keys(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the path and the value of each object within a value that has a null key, and that key."""
    if isinstance(value, dict):
        for key, item in value.items():
            if is_null(item):
                if key not in MAY_BE_NULL:
                    yield path, value, key
            elif key not in NOT_SEARCHED:
                yield from null_keys(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from null_keys(item, f"{path}[{number}]")


def without_null_keys(value: Any) -> Any:
    """Return a copy of a value without the keys that `null_keys` finds."""
    if isinstance(value, dict):
        return {
            key: item if key in NOT_SEARCHED else without_null_keys(item)
            for key, item in value.items()
            if key in MAY_BE_NULL or not is_null(item)
        }
    return list(map(without_null_keys, value)) if isinstance(value, list) else value
