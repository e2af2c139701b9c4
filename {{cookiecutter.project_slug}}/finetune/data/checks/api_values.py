"""Checks of single values that the types of the package `openai` describe in words only.

Each returns the value, or raises an error of pydantic that says what is wrong and how to fix it.
"""

from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic_core import PydanticCustomError

from finetune.data.images import DATA_URL, image_bytes
from finetune.data.json_schemas import schema_fault

INVALID = "invalid_value"  # the type of the error


def invalid(what: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError(INVALID, "{what}", {"what": what, "fix": fix})


def check_image_url(url: str) -> str:
    """Check the address of an image: https, http, or a data URL of a JPEG, PNG or WebP.

    Source: OpenAI's guides to vision and to fine-tuning with images.
    """
    if url[:5].lower() == "data:":
        if not DATA_URL.match(url):
            fix = 'Begin it with "data:image/png;base64,", or with jpeg or webp for png.'
            raise invalid("is a data URL, but not of a JPEG, PNG or WebP image in base64", fix)
        if not image_bytes(url):
            raise invalid("is a data URL with broken base64", "Encode the image again, without line breaks.")
    elif not is_web_address(url):
        fix = "Write the https address of the image, or its content as a data URL."
        raise invalid("is not a web address, so the server cannot read the image", fix)
    return url


def is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
    except ValueError:  # such as a broken IPv6 address
        return False


def check_arguments(arguments: str) -> str:
    """Check the arguments of a call: the JSON of an object."""
    try:
        is_object = isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object:
        raise invalid("is not the JSON of an object", 'Write it as a string, such as "{\\"a\\": 1}".')
    return arguments


def check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Check the parameters of a function: a JSON Schema of an object, or {}."""
    if fault := schema_fault(parameters):
        raise invalid(f"is not a valid JSON Schema: {fault}", "Correct it: servers refuse the function.")
    return parameters
