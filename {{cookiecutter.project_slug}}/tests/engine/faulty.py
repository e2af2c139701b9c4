"""A provider with faults: a loopback proxy in front of the engine that makes planned calls fail.

It forwards all other calls unchanged, so the client uses the real engine over HTTP.
"""

import http.client
import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


def refusal(status: int, code: str | None, message: str = "refused by the test", **headers: str) -> Callable[..., None]:
    """Return a fault that answers with OpenAI's error envelope and forwards nothing."""

    def act(handler: "Handler", forward: Callable[[], Any]) -> None:
        # Some servers repeat the key that they refuse.
        shown = message.replace("KEY", handler.headers.get("authorization", "").removeprefix("Bearer "))
        error = {"message": shown, "type": "test", "param": None, "code": code}
        handler.reply(status, json.dumps({"error": error}).encode(), {"content-type": "application/json", **headers})

    return act


def cut_before(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Close the connection before the request has its effect."""
    handler.cut()


def cut_after(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Close the connection after the request has its effect, before the answer."""
    forward()
    handler.cut()


def hang_after(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Let the request have its effect, and give no answer until the client's timeout."""
    forward()
    handler.server.closing.wait(handler.server.hang_seconds)
    handler.cut()


def broken_json(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Let the request have its effect, and send half of the answer."""
    status, _, body = forward()
    handler.reply(status, body[: len(body) // 2] or b"{", {"content-type": "application/json"})


def kill_before(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Kill the client before the request has its effect."""
    handler.server.kill_client()
    handler.cut()


def kill_after(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Kill the client after the request has its effect."""
    forward()
    handler.server.kill_client()
    handler.cut()


def web_page(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Let the request have its effect, and answer with a gateway's web page and status 200."""
    forward()
    handler.reply(200, b"<html><body>Please log in</body></html>", {"content-type": "text/html"})


FAULTS: dict[str, Callable[..., None]] = {
    "400": refusal(400, "invalid_value"),
    "401": refusal(401, "invalid_api_key", "Incorrect API key provided: KEY."),
    "403": refusal(403, "training_not_available", "Fine-tuning is winding down."),
    "404": refusal(404, None),
    "429": refusal(429, "rate_limit_exceeded", **{"retry-after": "1"}),
    "429-quota": refusal(429, "insufficient_quota"),
    "429-daily": refusal(429, "daily_rate_limit_exceeded"),
    "500": refusal(500, "server_error", **{"retry-after-ms": "50"}),
    "503": refusal(503, "server_is_overloaded", **{"retry-after-ms": "50"}),
    "cut-before": cut_before,
    "cut-after": cut_after,
    "hang": hang_after,
    "broken-json": broken_json,
    "web-page": web_page,
}

# The calls of upload and train: the stage, method and path, and the number of equal calls before it in that stage.
STEPS = {
    "files.list": ("upload", r"GET /v1/files", 0),
    "files.create": ("upload", r"POST /v1/files", 0),
    "files.wait": ("upload", r"GET /v1/files/file-\w+", 0),
    "files.check": ("train", r"GET /v1/files/file-\w+", 0),
    "jobs.list": ("train", r"GET /v1/fine_tuning/jobs", 0),
    "jobs.list-before": ("train", r"GET /v1/fine_tuning/jobs", 1),
    "jobs.create": ("train", r"POST /v1/fine_tuning/jobs", 0),
    "jobs.list-settle": ("train", r"GET /v1/fine_tuning/jobs", 2),
    "jobs.retrieve": ("train", r"GET /v1/fine_tuning/jobs/[\w-]+", 0),
    "jobs.events": ("train", r"GET /v1/fine_tuning/jobs/[\w-]+/events", 0),
    "files.result": ("train", r"GET /v1/files/file-\w+/content", 0),
    "jobs.checkpoints": ("train", r"GET /v1/fine_tuning/jobs/[\w-]+/checkpoints", 0),
    "files.name": ("train", r"GET /v1/files/file-\w+", 2),
    "files.weights": ("train", r"GET /v1/files/file-\w+/content", 1),
}


@dataclass
class Plan:
    """Which call fails, how, and how many times; `seen` is every call that came, as method and path."""

    pattern: str = ""
    skip: int = 0
    fault: Callable[..., None] | None = None
    times: int = 1
    rewrite: Callable[[str, bytes], bytes] | None = None
    seen: list[str] = field(default_factory=list)

    def take(self, call: str) -> Callable[..., None] | None:
        """Return the fault for this call, or None where it does not fail."""
        self.seen.append(call)
        if self.fault is None or self.times == 0 or not re.fullmatch(self.pattern, call):
            return None
        if self.skip:
            self.skip -= 1
            return None
        self.times -= 1
        return self.fault

    def calls(self) -> int:
        """Return how often the planned call was made."""
        return sum(re.fullmatch(self.pattern, call) is not None for call in self.seen)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    hang_seconds = 2.5
    client: subprocess.Popen[str] | None = None

    def __init__(self, engine: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.engine = urlsplit(engine)
        self.plan = Plan()
        self.closing = threading.Event()

    def kill_client(self) -> None:
        assert self.client
        self.client.kill()
        self.client.wait()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have closed the connection."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: in two, each answer waits 40 ms for the acknowledgement
    server: Server

    def handle_call(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        call = f"{self.command} {urlsplit(self.path).path}"

        def forward() -> tuple[int, dict[str, str], bytes]:
            engine = http.client.HTTPConnection(self.server.engine.hostname or "", self.server.engine.port)
            try:
                passed = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                engine.request(self.command, self.path, body, passed)
                answer = engine.getresponse()
                return answer.status, {"content-type": answer.headers["content-type"]}, answer.read()
            finally:
                engine.close()

        fault = self.server.plan.take(call)
        if fault is not None:
            fault(self, forward)
            return
        status, headers, content = forward()
        if self.server.plan.rewrite is not None:
            content = self.server.plan.rewrite(call, content)
        self.reply(status, content, headers)

    do_GET = do_POST = do_DELETE = handle_call

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the tests read the plan."""


@contextmanager
def faulty(engine: str) -> Iterator[Server]:
    """Run the proxy in front of an engine's address for the block."""
    server = Server(engine)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1"
