"""Forms that carry a file. What the client sends is written to a temporary file while it comes."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from finetune.engine.api_errors import ApiError
from finetune.engine.request_body import Body, digits, parse_body

MAX_FIELDS = 16  # OpenAI's forms have up to 4, each of a few characters
MAX_FIELD = 64 * 1024  # bytes


@asynccontextmanager
async def form_with_file(request: Request, name: str) -> AsyncIterator[tuple[FormData, UploadFile]]:
    """Yield the form of a request and its file of this name. Raises ApiError if there is not exactly one such file."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"multipart/form-data":
        what = f"'{name}' is a required property: send a form of the type multipart/form-data."
        raise ApiError(400, what, "missing_required_parameter", name)
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise ApiError(400, "The charset of a form must be utf-8.", "invalid_value")
    async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD) as form:
        for twice in sorted(field for field in form if len(form.getlist(field)) > 1):
            raise ApiError(400, f"The form has the field '{twice}' more than once.", "invalid_value", twice)
        found = form.get(name)
        if not isinstance(found, UploadFile):
            raise ApiError(400, f"'{name}' is a required property.", "missing_required_parameter", name)
        check_filename(found, name)
        yield form, found


def parse_form(kind: type[Body], form: FormData, name: str) -> Body:
    """Return a form as an instance of `kind`: the file of this name by its own name, `a[b]` as the key `b` of `a`.

    Raises ApiError that names the first field which is unknown or wrong.
    """
    found: dict[str, object] = {}
    for field, value in form.items():
        nested = re.fullmatch(r"(\w+)\[(\w+)\]", field)
        place = found.setdefault(nested[1], {}) if nested else found
        if isinstance(place, dict):
            key = nested[2] if nested else field
            place[key] = (value.filename or "file") if isinstance(value, UploadFile) else value
            place[key] = digits(place[key]) if nested else place[key]
    return parse_body(kind, found)


def check_filename(file: UploadFile, name: str) -> None:
    """Raise ApiError if the file's name is not UTF-8: the framework then takes its bytes for Latin-1."""
    try:
        file.headers.get("content-disposition", "").encode("latin-1").decode()
    except UnicodeError as error:
        raise ApiError(400, f"The name of the file in '{name}' is not UTF-8.", "invalid_value", name) from error
