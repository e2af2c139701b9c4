"""The schema of the answer that a request asks for by its `response_format`."""

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.enforced_schema import enforced_schema, type_alone
from finetune.engine.inference.grammar_schema import compile_error

NAME = re.compile("[a-zA-Z0-9_-]{1,64}")
NAME_RULE = "a-z, A-Z, 0-9, '_' and '-', 1 to 64 characters"


def answer_schema(response_format: Mapping[str, Any] | None) -> Any:
    """Return the schema of the answer, as the compiler gets it; None if the answer is text."""
    if response_format is None:
        return None
    kind = response_format.get("type")
    refuse_unknown(response_format, {"type", *(["json_schema"] if kind == "json_schema" else [])}, "response_format")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        message = f"Invalid value: {kind!r}. Supported values are: 'json_object', 'json_schema', and 'text'."
        raise ApiError(400, message, "invalid_value", "response_format.type")
    param = "response_format.json_schema"
    given = response_format.get("json_schema")
    if not isinstance(given, Mapping):
        raise ApiError(400, f"Missing required parameter: '{param}'.", "missing_required_parameter", param)
    refuse_unknown(given, {"name", "description", "schema", "strict"}, param)
    name = checked_name(given.get("name"), f"{param}.name")
    schema = given.get("schema")
    if schema is None:
        return {"type": "object"}

    def refuse(what: str) -> NoReturn:
        raise ApiError(400, f"Invalid schema for response_format '{name}': {what}", "invalid_json_schema", param)

    if not isinstance(schema, Mapping):
        refuse("it must be an object.")
    strict = given.get("strict") is True
    enforced = enforced_schema(schema, refuse, strict=strict)
    if error := compile_error(enforced):
        return refuse(error) if strict else type_alone(schema)
    return enforced


def refuse_unknown(given: Mapping[str, Any], known: set[str], param: str) -> None:
    """Raise ApiError for a key that would have no effect. Null stands for a key that is not there."""
    for key in sorted(key for key, value in given.items() if key not in known and value is not None):
        message = f"This server does not support '{param}.{key}' here."
        raise ApiError(400, message, "unsupported_parameter", f"{param}.{key}")


def checked_name(name: Any, param: str) -> str:
    if name is None:
        raise ApiError(400, f"Missing required parameter: '{param}'.", "missing_required_parameter", param)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ApiError(400, f"Invalid '{param}': it must be a string of {NAME_RULE}.", "invalid_value", param)
    return name
