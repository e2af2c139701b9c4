"""A provider with faults: a loopback proxy in front of the engine that makes planned calls fail.

It forwards all other calls unchanged, so the client uses the real engine over HTTP.
"""

import http.client
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


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


def answer_after(status: int, body: object, **headers: str) -> Callable[..., None]:
    """Return a fault that lets the request have its effect, and answers something else."""

    def act(handler: "Handler", forward: Callable[[], Any]) -> None:
        forward()
        handler.reply(status, json.dumps(body).encode(), {"content-type": "application/json", **headers})

    return act


def redirect_after(status: int, host: str) -> Callable[..., None]:
    """Return a fault that lets the request have its effect, and answers with a redirect of it to this host."""

    def act(handler: "Handler", forward: Callable[[], Any]) -> None:
        forward()
        target = f"http://{host}:{handler.server.server_address[1]}{handler.path}"
        handler.reply(status, b"{}", {"content-type": "application/json", "location": target})

    return act


def meet(count: int) -> Callable[..., None]:
    """Return a fault that lets this many requests have their effect together: each waits until all have come."""
    together = threading.Barrier(count)

    def act(handler: "Handler", forward: Callable[[], Any]) -> None:
        together.wait(60)
        status, headers, body = forward()
        handler.reply(status, body, headers)

    return act


def slow_loris(handler: "Handler", forward: Callable[[], Any]) -> None:
    """Let the request have its effect, and send the answer byte by byte, each in time for a read."""
    forward()
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        if handler.server.closing.wait(0.2):
            return
        handler.wfile.write(b" ")


def envelope(message: str, code: str | None) -> dict[str, object]:
    """Return OpenAI's error envelope."""
    return {"error": {"message": message, "type": "test", "param": None, "code": code}}


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
    "501": refusal(501, None),
    "408": refusal(408, None, **{"retry-after-ms": "50"}),
    "408-after": answer_after(408, envelope("timed out", None), **{"retry-after-ms": "50"}),
    "400-after": answer_after(400, envelope("bad gateway rule", None)),
    "429-after": answer_after(429, envelope("slow down", "rate_limit_exceeded"), **{"retry-after": "1"}),
    "200-error": answer_after(200, envelope("overloaded", "server_error")),
    "200-null": answer_after(200, None),
    "200-empty": answer_after(200, {}),
    "200-other": answer_after(200, {"id": "thing-1", "object": "thing"}),
    "303": redirect_after(303, "127.0.0.1"),
    "307": redirect_after(307, "127.0.0.1"),
    "307-elsewhere": redirect_after(307, "localhost"),
    "slow-loris": slow_loris,
}

# The calls of upload and train: the stage, method and path, and the number of equal calls before it in that stage.
STEPS = {
    "files.list": ("upload", r"GET /v1/files", 0),
    "files.create": ("upload", r"POST /v1/files", 0),
    "files.wait": ("upload", r"GET /v1/files/file-\w+", 0),
    "files.check": ("train", r"GET /v1/files/file-\w+", 0),
    "jobs.list": ("train", r"GET /v1/fine_tuning/jobs", 0),
    "jobs.create": ("train", r"POST /v1/fine_tuning/jobs", 0),
    "jobs.list-settle": ("train", r"GET /v1/fine_tuning/jobs", 1),
    "jobs.retrieve": ("train", r"GET /v1/fine_tuning/jobs/[\w-]+", 0),
    "models.retrieve": ("train", r"GET /v1/models/[^/]+", 0),
    "jobs.events": ("train", r"GET /v1/fine_tuning/jobs/[\w-]+/events", 0),
    "files.result": ("train", r"GET /v1/files/file-\w+/content", 0),
    "jobs.checkpoints": ("train", r"GET /v1/fine_tuning/jobs/[\w-]+/checkpoints", 0),
    "files.name": ("train", r"GET /v1/files/file-\w+", 2),
    "files.weights": ("train", r"GET /v1/files/file-\w+/content", 1),
}


# What a server does all the time. Clients move its clock while they wait: see quick.py.
HABITS: dict[str, dict[str, Any]] = {
    "lag of 20 s": {"lag": 20},
    "lag of 90 s": {"lag": 90},
    "no metadata": {"keeps_metadata": False},
    "no metadata, lag of 90 s": {"keeps_metadata": False, "lag": 90},
    "clock 5 minutes ahead": {"clock": 300},
    "clock 5 minutes behind": {"clock": -300},
    "endless pages": {"pages_end": False},
}


@dataclass
class Plan:
    """Which call fails, how, and how many times; `seen` is every call that came, as method and path.

    The rest is what the server does all the time.
    """

    pattern: str = ""
    skip: int = 0
    fault: Callable[..., None] | None = None
    times: int = 1
    rewrite: Callable[[str, bytes], bytes] | None = None
    lag: float = 0.0  # seconds until lists show what was created
    clock: int = 0  # seconds by which the server's clock is ahead
    keeps_metadata: bool = True
    pages_end: bool = True  # False: each list says that it has more, and repeats its first page
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
        self.followed: list[str] = []  # calls that came by a redirect to another host
        self.skipped = 0.0  # seconds that clients have skipped, in which they would have waited
        self.born: dict[str, tuple[float, float]] = {}  # when each file and job was created, and what was skipped then
        self.forwarding = 0  # requests that the engine has not answered yet
        self.answered = threading.Condition()
        self.closing = threading.Event()

    def now(self) -> float:
        """Return the seconds of a clock that goes on, and is moved by `skip`."""
        return time.monotonic() + self.skipped

    def skip(self, seconds: float) -> None:
        """Let time pass at once. What the engine is doing comes first: it would have had that time."""
        with self.answered:
            self.answered.wait_for(lambda: self.forwarding == 0)
            self.skipped += seconds

    @contextmanager
    def being_forwarded(self) -> Iterator[None]:
        with self.answered:
            self.forwarding += 1
        try:
            yield
        finally:
            with self.answered:
                self.forwarding -= 1
                self.answered.notify_all()

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
        if self.path.startswith("/skip/"):
            self.server.skip(float(self.path.rpartition("/")[2]))
            self.reply(200, b"", {})
            return
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        call = f"{self.command} {urlsplit(self.path).path}"

        def forward() -> tuple[int, dict[str, str], bytes]:
            engine = http.client.HTTPConnection(self.server.engine.hostname or "", self.server.engine.port)
            try:
                own = ("host", "content-length")
                passed = {name: value for name, value in self.headers.items() if name.lower() not in own}
                with self.server.being_forwarded():
                    engine.request(self.command, self.path_to_send(), self.body_to_send(body), passed)
                    answer = engine.getresponse()
                    content = self.seen_by_client(call, answer.status, answer.read())
                return answer.status, {"content-type": answer.headers["content-type"]}, content
            finally:
                engine.close()

        if self.headers.get("host", "").startswith("localhost"):
            self.server.followed.append(call)

        fault = self.server.plan.take(call)
        if fault is not None:
            fault(self, forward)
            return
        status, headers, content = forward()
        if self.server.plan.rewrite is not None:
            content = self.server.plan.rewrite(call, content)
        self.reply(status, content, headers)

    def path_to_send(self) -> str:
        """Return the path and the query, without what the server ignores."""
        parts = urlsplit(self.path)
        query = parse_qsl(parts.query, keep_blank_values=True)
        plan = self.server.plan
        kept = [(key, value) for key, value in query if plan.keeps_metadata or not key.startswith("metadata")]
        kept = [(key, value) for key, value in kept if plan.pages_end or key != "after"]
        return urlunsplit(("", "", parts.path, urlencode(kept), ""))

    def body_to_send(self, body: bytes) -> bytes:
        """Return the body, without the metadata where the server keeps none."""
        if self.server.plan.keeps_metadata or b'"metadata"' not in body:
            return body
        return json.dumps({key: value for key, value in json.loads(body).items() if key != "metadata"}).encode()

    def seen_by_client(self, call: str, status: int, content: bytes) -> bytes:
        """Return an answer of the engine as a server with the plan's lag, clock and pages gives it."""
        plan, now, born = self.server.plan, self.server.now(), self.server.born
        if status >= 300 or not re.fullmatch(r"(GET|POST) /v1/(files|fine_tuning/jobs)(/[\w-]+)?", call):
            return content
        answer = json.loads(content)
        if call in ("POST /v1/files", "POST /v1/fine_tuning/jobs"):
            born[answer["id"]] = now, self.server.skipped
        if "data" in answer:
            old = [one for one in answer["data"] if now - born.get(one["id"], (0.0, 0.0))[0] >= plan.lag]
            answer |= {"data": old, "has_more": answer.get("has_more", False) if plan.pages_end else bool(old)}
        for one in answer.get("data", [answer]):
            ahead = plan.clock + int(born.get(one["id"], (0.0, 0.0))[1])
            for key in ("created_at", "finished_at"):
                one |= {key: one[key] + ahead} if one.get(key) else {}
        return json.dumps(answer, separators=(",", ":")).encode()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the header `Date` by the server's clock."""
        return super().date_time_string((timestamp or time.time()) + self.server.plan.clock + self.server.skipped)

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
