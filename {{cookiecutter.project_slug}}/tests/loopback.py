"""A chat completions server for tests, on a free port, whose answers come from a function."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any], Mapping[str, str]]


@contextmanager
def server(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[str]:
    """Give the address of a server that replies to each request body with the status, body and headers of `answer`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, body, headers = answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            content = json.dumps(body).encode()
            with suppress(ConnectionError):  # the client may have closed the connection
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/v1"
        finally:
            http.shutdown()
            thread.join()


def completion(text: str, **more: Any) -> dict[str, Any]:
    """Return a chat completion with one choice."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def refusal(code: str, message: str = "no") -> dict[str, Any]:
    """Return the body of an error with this code."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
