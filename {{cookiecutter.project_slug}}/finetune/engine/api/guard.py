"""What every request passes: checks of its host, key, address and size, and an answer to every error.

Each error is in OpenAI's envelope. The answer to an unforeseen one names only an ID, under which the log has the rest.
"""

import errno
import hmac
import logging
import re
import sqlite3
import time
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetune.engine import uploads
from finetune.engine.api_errors import ApiError, as_refusal
from finetune.engine.ids import new_id
from finetune.engine.inference.endpoints import ENDPOINTS
from finetune.engine.os_errors import TEMPORARY

MIB = 1024**2
MAX_JSON = 4 * MIB  # the largest request with a use completes an upload: 8 GB have 128 parts of 64 MiB, 4 KiB of IDs
# A million tokens, which is more than bases have, are about 4 million letters, and each may be escaped as \uXXXX.
MAX_TEXT = 32 * MIB
FORM = MIB  # what a form has besides its file
HEALTH = "/health"  # answered without a key
VERSION = "2020-10-01"  # of OpenAI's API, as its answers name it
RETRY_AFTER = 1  # seconds until a request that met a busy server may be sent again
STORAGE = "storage_error"  # the code for a folder that is full, read-only or damaged
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
LOG = logging.getLogger("uvicorn.error")


class Guard:
    """The middleware around all routes.

    With `hosts`, a request's Host must be one of them, with any port. A web page that is open on this machine can send
    requests to a host name that means a loopback address (DNS rebinding). Such requests have that name as their Host.
    """

    def __init__(self, app: ASGIApp, key: str, hosts: frozenset[str] | None) -> None:
        self.app, self.hosts, self.key = app, hosts, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = new_id("req_")
        answer = Answer(send, request_id)
        try:
            headers = Headers(scope=scope)
            self.check_host(headers)
            if scope["path"] != HEALTH:
                self.check_key(headers)
            check_address(scope)
            scope = without_azure(scope)
            limit = body_limit(scope["path"])
            if (announced := headers.get("content-length", "")).isdecimal() and int(announced[:20]) > limit:
                raise too_large(limit)
            await self.app(scope, limited(receive, limit), answer.send)
        except Exception as error:
            if answer.started:
                raise
            await error_answer(refusal_of(error, request_id))(scope, receive, answer.send)

    def check_host(self, headers: Headers) -> None:
        host = re.sub(r":\d{1,5}$", "", headers.get("host", "").lower())
        if self.hosts is not None and host not in self.hosts:
            what = f"This server listens for {', '.join(sorted(self.hosts))} only. Use one of them in its address."
            raise ApiError(421, what, "misdirected_request")

    def check_key(self, headers: Headers) -> None:
        """Raise ApiError without the key: as a bearer token, or in the header `api-key`, as Azure's clients send it."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = token.strip() if scheme.lower() == "bearer" else headers.get("api-key", "")
        if not hmac.compare_digest(sent.encode(), self.key):
            raise ApiError(401, "Incorrect API key provided. Use the key of this server.", "invalid_api_key")


class Answer:
    """An answer on its way: with an ID, and in the envelope if it is an error that a library wrote as plain text."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.forward, self.request_id, self.started = send, request_id, False
        self.began = time.monotonic()
        self.plain: tuple[int, bytes] | None = None  # the status and the text of a plain error

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            if message["status"] >= 400 and headers.get("content-type") != "application/json":
                self.plain = message["status"], b""
                return
            self.started = True
            headers["x-request-id"] = self.request_id
            headers["openai-version"] = VERSION
            headers.setdefault("openai-processing-ms", str(round(1000 * (time.monotonic() - self.began))))
        elif self.plain:
            status, text = self.plain[0], self.plain[1] + message.get("body", b"")
            self.plain = status, text
            if not message.get("more_body"):
                self.plain = None
                error = ApiError(status, text.decode("utf-8", "replace") or "This request cannot be answered.")
                await error_answer(error)({"type": "http"}, no_body, self.send)
            return
        await self.forward(message)


async def no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def without_azure(scope: Scope) -> Scope:
    """Return the scope with OpenAI's path in place of Azure's, and the deployment that Azure's path names."""
    path = re.sub(r"^/openai(/v1)?(?=/)", "/v1", scope["path"])
    found = re.match(r"/v1/deployments/([^/]+)(?=/)", path)
    if not found:
        return {**scope, "path": path}
    return {**scope, "path": f"/v1{path[found.end() :]}", "deployment": found[1]}


def check_address(scope: Scope) -> None:
    """Raise ApiError if the path or the query is not UTF-8."""
    try:
        scope["path"].encode()
        for escaped in (scope.get("raw_path") or b"", scope["query_string"]):
            unquote_to_bytes(escaped).decode()
    except UnicodeError as error:
        raise ApiError(400, "The address of your request is not UTF-8.", "invalid_value") from error


def body_limit(path: str) -> int:
    """Return how many bytes the body of a request to this path may have."""
    if path == "/v1/files":
        return uploads.MAX_FILE + FORM
    if re.fullmatch(r"/v1/uploads/[^/]*/parts", path):
        return uploads.MAX_PART + FORM
    return MAX_TEXT if path in (*ENDPOINTS, "/tokenize") else MAX_JSON


def limited(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that raises ApiError when more than `limit` bytes of the body have come."""
    received = 0

    async def receive_within_limit() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_large(limit)
        return message

    return receive_within_limit


def too_large(limit: int) -> ApiError:
    what = f"The body of this request may have at most {limit:,} bytes."
    if limit == uploads.MAX_FILE + FORM:
        what += " Send larger files in parts, to /v1/uploads."
    return ApiError(413, what, "request_too_large")


def refusal_of(error: Exception, request_id: str) -> ApiError:
    """Return the answer to a request that ended with an exception. An unforeseen one is written to the log."""
    if isinstance(error, ClientDisconnect):
        return ApiError(400, "The request ended before its body was complete.")
    is_locked = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
    if is_locked or (isinstance(error, OSError) and error.errno in TEMPORARY and error.errno not in STORAGE_ERRORS):
        LOG.error("%s failed: %s", request_id, error)
        return ApiError(503, "The server is busy. Send the request again in a moment.", "server_is_overloaded")
    if isinstance(error, sqlite3.Error) or (isinstance(error, OSError) and error.errno in STORAGE_ERRORS):
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
        LOG.error("%s failed: %s", request_id, cause)
        return ApiError(507, f"The engine cannot use its folder: {cause}. Free some disk space or correct it.", STORAGE)
    refusal = as_refusal(error)
    if refusal.unforeseen is None:
        return refusal
    LOG.error("%s failed:", request_id, exc_info=refusal.unforeseen)
    what = f"The server had an error while processing your request. Its log has the reason, under {request_id}."
    return ApiError(500, what, "server_error")


def error_answer(error: ApiError) -> Response:
    headers = {} if error.code != STORAGE else {"x-should-retry": "false"}  # another attempt would not help
    if error.status == 503:
        headers["retry-after"] = str(RETRY_AFTER)
    return JSONResponse(error.envelope(), error.status, headers)
