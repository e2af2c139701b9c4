"""The input file of a batch: reading its requests, and checking it before the first one is answered."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from finetune.engine import bases
from finetune.engine.api_errors import ApiError
from finetune.engine.batch_queue import BatchError
from finetune.engine.jsonl import numbered_lines, parse_object
from finetune.engine.request_body import RequestBody, parse_body
from finetune.engine.store import Store

MAX_REQUESTS = 50_000
MAX_ERRORS = 100  # reported of one file


class BatchLine(RequestBody):
    """A line of the input file. The chat request in `body` is checked when it is answered."""

    invalid_code: ClassVar[str] = "missing_required_parameter"

    custom_id: str
    method: str
    url: str
    body: dict[str, Any]


@dataclass
class CheckedInput:
    """The number of requests of an input file, the model of all of them, and what is wrong with the file."""

    total: int = 0
    model: str | None = None
    errors: list[BatchError] = field(default_factory=list)


def read_requests(path: Path) -> Iterator[BatchLine]:
    """Yield the requests of an input file that was checked."""
    for _, line in numbered_lines(path):
        yield parse_body(BatchLine, parse_object(line))


def check_input(store: Store, path: Path, endpoint: str) -> CheckedInput:
    """Read an input file and check each line, and that the model exists."""
    checked = check_lines(path, endpoint)
    if not checked.total:
        checked.errors.append(file_error("empty_file", "The input file has no requests."))
    if checked.total > MAX_REQUESTS:
        message = f"The input file has {checked.total:,} requests; {MAX_REQUESTS:,} are allowed."
        checked.errors.append(file_error("too_many_tasks", message))
    if not checked.errors and checked.model is not None:
        tuned = store.row("SELECT id FROM models WHERE id = ?", checked.model)
        if not tuned and not bases.known(checked.model, store):
            message = f"The model `{checked.model}` does not exist."
            checked.errors.append(file_error("model_not_found", message, "body.model"))
    return checked


def file_error(code: str, message: str, param: str = "input_file_id") -> BatchError:
    """Return an error of the whole file."""
    return {"code": code, "message": message, "param": param, "line": None}


def check_lines(path: Path, endpoint: str) -> CheckedInput:
    """Check the lines of an input file one by one, up to MAX_ERRORS errors."""
    checked = CheckedInput()
    seen: set[str] = set()
    for number, line in numbered_lines(path):
        checked.total += 1
        try:
            request = check_line(line, seen, checked.model, endpoint)
        except ApiError as error:
            checked.errors.append(
                {"code": str(error.code), "message": error.message, "param": error.param, "line": number}
            )
            if len(checked.errors) == MAX_ERRORS:
                break
        else:
            seen.add(request.custom_id)
            checked.model = request.body["model"]
    return checked


def check_line(line: bytes, seen: set[str], model: str | None, endpoint: str) -> BatchLine:
    """Return the request of a line. Raises ApiError if it is wrong, or does not fit the IDs and the model before it."""
    try:
        content = parse_object(line)
    except ValueError as error:
        what = f"This line is not parseable as a JSON object: {error}"
        raise ApiError(400, what, "invalid_json_line") from error
    request = parse_body(BatchLine, content)
    if request.custom_id in seen:
        message = f"The custom_id {request.custom_id!r} is already that of an earlier line."
        raise ApiError(400, message, "duplicate_custom_id", "custom_id")
    if request.method != "POST":
        raise ApiError(400, f"The method must be POST, not {request.method!r}.", "invalid_method", "method")
    if request.url != endpoint:
        message = f"The url must be the batch's endpoint {endpoint}, not {request.url!r}."
        raise ApiError(400, message, "invalid_url", "url")
    name = request.body.get("model")
    if not isinstance(name, str):
        raise ApiError(400, "'body.model' must be a string.", "missing_required_parameter", "body.model")
    if model not in (None, name):
        message = f"All requests of a batch must have the same model: {model!r}, not {name!r}."
        raise ApiError(400, message, "mismatched_model", "body.model")
    return request
