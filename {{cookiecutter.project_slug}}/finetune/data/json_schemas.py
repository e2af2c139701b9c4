"""Check the JSON Schema of a function's parameters."""

from functools import lru_cache
from typing import Any

import orjson

MOST_LETTERS = 80  # of the library's message


def schema_fault(parameters: Any) -> str | None:
    """Return what is wrong with the parameters of a function, a JSON Schema of an object or {}; None if nothing is."""
    try:
        return fault_of_document(orjson.dumps(parameters, default=float))
    except (TypeError, ValueError, RecursionError):  # not from JSON, or too deep for a schema
        return "cannot be read"


@lru_cache(10_000)  # most examples of a file declare the same functions
def fault_of_document(document: bytes) -> str | None:
    import jsonschema

    schema = orjson.loads(document)
    if not schema:
        return None
    if not isinstance(schema, dict):
        return "it is not an object"
    if schema.get("type") != "object":
        return 'its "type" is not "object"'
    try:
        # Without a format checker: it would refuse patterns of other languages than Python.
        jsonschema.Draft202012Validator.check_schema(schema, format_checker=None)
    except jsonschema.SchemaError as error:
        place = ".".join(map(str, error.absolute_path))
        return f"at {place}: {error.message[:MOST_LETTERS]}" if place else error.message[:MOST_LETTERS]
    return None
