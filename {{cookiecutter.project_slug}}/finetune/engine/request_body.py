"""The base class of request bodies, and the conversion of pydantic's errors into OpenAI's error envelope."""

import re
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from finetune.engine.api_errors import ApiError
from finetune.engine.field_errors import path_of, words_of


class RequestBody(BaseModel):
    """A JSON object of a request. Types are exact: `true` is not a number, and "1" is neither.

    A field's description completes the sentence "must be …" of its error message.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    unknown_code: ClassVar[str] = "unsupported_parameter"  # the error code for an unknown key
    invalid_code: ClassVar[str] = "invalid_value"  # the error code for an invalid field
    codes: ClassVar[dict[str, str]] = {}  # the error codes of fields that have another one


Body = TypeVar("Body", bound=RequestBody)

NO_NUL = r"^[^\x00]*$"  # SQLite's functions take the character NUL for the end of a text

# OpenAI's limits of `metadata`.
MAX_PAIRS = 16
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64, pattern=NO_NUL)], Annotated[str, Field(max_length=512, pattern=NO_NUL)]],
    Field(
        max_length=MAX_PAIRS,
        description=f"an object of at most {MAX_PAIRS} strings of up to 512 characters, under keys of up to 64"
        " characters, all without the character NUL",
    ),
]


def parse_json(content: bytes | str) -> Any:
    """Return the value that a JSON text holds.

    Raises ValueError, also for half of a surrogate pair, NaN, and nesting and numbers that are too large.
    """
    return from_json(content, allow_inf_nan=False)


def digits(value: object) -> object:
    """Return the number of a text of digits, from a query or a form. Anything else stays, and is then refused."""
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value


def parse_body(kind: type[Body], body: object, parent: str | None = None) -> Body:
    """Return the body as an instance of `kind`. Raises ApiError with status 400 that names the first wrong parameter.

    `parent` is the parameter that holds the body, if it is not the whole body of the request.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise api_error(kind, error, parent) from error


def api_error(kind: type[RequestBody], error: ValidationError, parent: str | None = None) -> ApiError:
    """Return the ApiError for a body that is not an instance of `kind`: an unknown key first, else the first field.

    An unknown key is named with the keys that hold it: `method.dpo`.
    """
    prefix = f"{parent}." if parent else ""
    errors = error.errors(include_url=False, include_input=False)
    unknown = sorted(path_of(one["loc"]) for one in errors if one["type"] == "extra_forbidden")
    if unknown:
        param = prefix + unknown[0]
        return ApiError(400, f"This server does not support '{param}'.", kind.unknown_code, param)
    first = errors[0]
    field, *inside = first["loc"]
    path = prefix + path_of(first["loc"])
    # OpenAI names a message by its place, and everything else by the field of the body.
    param = f"messages[{inside[0]}]" if field == "messages" and inside else prefix + str(field)
    description = kind.model_fields[str(field)].description
    if description and first["type"] != "missing":
        message = f"'{param}' must be {description}."
    else:
        message = f"'{path}' {words_of(first)}."
    return ApiError(400, message, kind.codes.get(str(field), kind.invalid_code), param)
