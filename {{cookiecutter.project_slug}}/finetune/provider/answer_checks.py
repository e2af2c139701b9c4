"""What each answer of the provider is checked for before the SDK reads it: redirects, web pages, half an answer."""

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from finetune.provider.retries import FINAL_CODES

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import APIConnectionError

BROKEN = "was answered with"
HELD = "x-redirect-not-followed"  # the header that keeps the address of a redirect
OBJECTS = {"/files/": "file", "/jobs/": "fine_tuning.job", "/batches/": "batch", "/models/": "model"}
BY_ID = ("/files/", "/jobs/", "/batches/")  # a model may be answered by another name than it was asked by
LISTS = ("/files", "/fine_tuning/jobs", "/events", "/checkpoints", "/models", "/batches")


# In group 1 what stays: an escaped backslash, or a whole pair.
HALVES = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Clock:
    """The provider's clock, by the header `Date` of its answers; this machine's before the first answer."""

    ahead = 0.0  # seconds

    def now(self) -> float:
        """Return the seconds since 1970."""
        return time.time() + self.ahead

    def read(self, response: "Response") -> None:
        """Set the clock by an answer that has the header."""
        with suppress(KeyError, TypeError, ValueError):  # missing, or no date
            ahead = parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
            if abs(ahead - self.ahead) > 2:  # a header has whole seconds, and takes its time
                self.ahead = ahead


def hold_redirect(response: "Response") -> None:
    """Keep the client from following a redirect to another host, or of a request that is not only a question.

    Behind such an answer the request may have had its effect, and sent again it would have it twice; at another host it
    would hand over the data. The SDK then raises an error of this status.
    """
    if not response.has_redirect_location:
        return
    target = response.url.join(response.headers["location"])
    same = all(getattr(target, part) == getattr(response.url, part) for part in ("scheme", "host", "port"))
    if response.request.method != "GET" or not same:
        del response.headers["location"]
        response.headers[HELD] = str(target.copy_with(query=None, userinfo=b""))


def check_answer(response: "Response") -> None:
    """Stop the SDK from retrying final errors, and from accepting a gateway's HTML page as an answer.

    Raises httpx2.RemoteProtocolError for a success that is not JSON: the request may or may not have had its effect.
    """
    import httpx2

    path = response.request.url.path
    if path.endswith("/completions") and response.headers.get("content-type", "").startswith("text/event-stream"):
        return
    content = response.read()
    if not path.endswith("/content"):
        response._content = whole_letters(content)
    if response.status_code == 429 and error_code(response) in FINAL_CODES:
        response.headers["x-should-retry"] = "false"
    if response.is_success and (fault := fault_of(response)):
        request = response.request
        raise httpx2.RemoteProtocolError(f"{request.method} {request.url.path} {BROKEN} {fault}", request=request)


def is_broken_answer(error: "APIConnectionError") -> bool:
    """Return whether an answer came, but was not what it should be."""
    return BROKEN in str(error.__cause__)


def fault_of(response: "Response") -> str | None:
    """Return what a successful answer is instead of what it should be; None if nothing is wrong with it.

    A list without its rows would be read as "there is no such job", and the job created again.
    """
    path = response.request.url.path
    if response.headers.get("content-type", "").startswith("text/html"):
        return "a web page"
    if path.endswith("/content"):
        return None
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return "broken JSON"
    if not isinstance(body, dict):
        return f"{json.dumps(body)[:40]} instead of an object"
    error = body.get("error")
    if error and not body.get("id"):
        message = error.get("message") if isinstance(error, dict) else error
        return f"status {response.status_code} and an error: {str(message)[:200]}"
    if response.request.method != "GET":
        return None
    if not path.endswith(LISTS):
        should_be = next((name for part, name in OBJECTS.items() if part in path), None)
        is_other = body.get("object", should_be) != should_be
        if body.get("id") and any(part in path for part in BY_ID):
            is_other |= body["id"] != path.rsplit("/", 1)[1]  # such as one from a cache
        return "another object" if is_other else None if body.get("id") else "an object without an ID"
    return None if isinstance(body.get("data"), list) or is_empty_list(body) else "no list"


def whole_letters(content: bytes) -> bytes:
    """Return JSON in UTF-8 with U+FFFD for halves of surrogate pairs, which no file and no terminal takes."""
    text = content if content.isascii() else content.decode("utf-8", "replace").encode()
    return HALVES.sub(lambda found: found[1] or rb"\ufffd", text) if rb"\u" in text else text


def error_code(response: "Response") -> Any:
    """Return the code of the error in a response; None where there is none."""
    try:
        return json.loads(response.content)["error"]["code"]
    except (ValueError, TypeError, KeyError):
        return None


def is_empty_list(body: Mapping[str, Any]) -> bool:
    """Return whether a list says that it has no rows as some servers do: by null."""
    return body.get("object") == "list" and body.get("data", 0) is None
