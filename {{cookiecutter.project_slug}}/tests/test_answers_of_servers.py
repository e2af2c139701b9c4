"""What the client makes of strange servers: redirects, lists without an end, answers that never end, other clocks."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import openai
import pytest

from finetune.core.errors import FinetuneError
from finetune.core.profiles import PROFILES
from finetune.core.sections.provider import Provider
from finetune.provider import bounded_client, paging
from finetune.provider.connect import Connection, connect
from finetune.provider.error_messages import explain
from finetune.provider.paging import all_rows

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def served(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Connection, list[str]]]:
    """Connect to a server that gives this answer to each request; give the requests that it has seen, too."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_call(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            seen.append(f"{self.command} {self.headers['host'].split(':')[0]} {self.path}")
            answer(self)

        do_GET = do_POST = handle_call

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("FINETUNE_API_KEY", "sk-test")
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        with connect(Provider(name="compatible", base_url=address)) as connection:
            yield connection, seen
    finally:
        server.shutdown()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    content = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"content-type": "application/json", "content-length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def create_job(connection: Connection) -> object:
    return connection.once.fine_tuning.jobs.create(model="m", training_file="file-1")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_of_what_must_be_sent_once_is_not_followed(
    host: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        port = handler.server.server_address[1]  # type: ignore[index]
        reply(handler, status, {}, location=f"http://{host}:{port}/v1/other?key=secret")

    with pytest.raises(FinetuneError) as error, served(redirect, monkeypatch) as (connection, seen):
        create_job(connection)
    assert seen == ["POST 127.0.0.1 /v1/fine_tuning/jobs"]
    assert f"answered {status}: go to http://{host}" in str(error.value)
    assert "provider.base_url" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("host", "follows"), [("127.0.0.1", True), ("localhost", False)])
def test_a_question_may_be_redirected_on_the_same_host_only(
    host: str, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        port = handler.server.server_address[1]  # type: ignore[index]
        if handler.path.endswith("/"):
            reply(handler, 200, {"id": "m", "object": "model", "created": 1, "owned_by": "x"})
        else:
            reply(handler, 307, {}, location=f"http://{host}:{port}{handler.path}/")

    with served(redirect, monkeypatch) as (connection, seen):
        if follows:
            assert connection.control.models.retrieve("m").id == "m"
        else:
            with pytest.raises(openai.APIStatusError):
                connection.control.models.retrieve("m")
    assert len(seen) == 1 + follows


@pytest.mark.parametrize(
    ("message", "is_tuned"),
    [
        ("The model 'no-such-org/no-such-model' cannot be fine-tuned here.", False),
        ("The model `SmolLM2-360M` does not exist or you do not have access to it.", False),
        ("The model `ft:tiny:local::1` does not exist or you do not have access to it.", True),
    ],
)
def test_only_a_fine_tune_that_is_not_here_is_to_be_trained_again(message: str, is_tuned: bool) -> None:
    """For the name of a base, the advice would be the command that has just failed."""
    answer = httpx2.Response(404, request=httpx2.Request("POST", "http://127.0.0.1/v1"))
    error = openai.NotFoundError(message, response=answer, body={"message": message, "code": "model_not_found"})
    remedy = explain(error, PROFILES["local"], "http://127.0.0.1/v1").remedy
    assert "train.base" in remedy
    assert ("trained on this one by: finetune train" in remedy) == is_tuned


@pytest.mark.parametrize("body", [None, [], "text", 5, {"error": {"message": "no"}}, {"error": "no"}, {}, {"data": 5}])
def test_a_list_that_is_none_is_no_empty_list(body: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as empty, it would say that there is no job, and the job would be created again."""

    def strange(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200, body)

    with served(strange, monkeypatch) as (connection, _), pytest.raises(openai.APIConnectionError):
        all_rows(connection.once.fine_tuning.jobs.list())


@pytest.mark.parametrize(
    "answer", [{"object": "file"}, {"id": "thing-1", "object": "thing"}, {"id": "file-2", "object": "file"}]
)
def test_another_object_is_no_answer(answer: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        served(lambda handler: reply(handler, 200, answer), monkeypatch) as (connection, _),
        pytest.raises(openai.APIConnectionError),
    ):
        connection.once.files.retrieve("file-1")


def test_a_stream_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200, "data: {}", **{"content-type": "text/event-stream"})

    with served(stream, monkeypatch) as (connection, _), pytest.raises(openai.APIConnectionError):
        all_rows(connection.once.files.list())


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb'"a\ud800b"', "a\ufffdb"),
        (rb'"\udc00\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud800"', r"\ud800"),
        (b'"\xed\xa0\x80"', "\ufffd" * 3),
        ('"é"'.encode(), "é"),
    ],
)
def test_half_of_a_surrogate_pair_is_a_whole_letter(sent: bytes, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no terminal takes the half."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = b'{"id": "file-1", "object": "file", "filename": ' + sent + b"}"
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with served(answer, monkeypatch) as (connection, _):
        assert connection.control.files.retrieve("file-1").filename == read


def test_a_list_without_rows_may_say_null(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(lambda handler: reply(handler, 200, {"object": "list", "data": None}), monkeypatch) as (connection, _):
        assert all_rows(connection.control.fine_tuning.jobs.list()) == []


def test_a_list_ends_with_a_page_that_has_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """This server ignores `after` and always says that there is more."""
    files = [{"id": f"file-{n}", "object": "file"} for n in range(3)]
    page = {"object": "list", "data": files, "has_more": True}
    with served(lambda handler: reply(handler, 200, page), monkeypatch) as (connection, seen):
        assert [file.id for file in all_rows(connection.control.files.list())] == ["file-0", "file-1", "file-2"]
    assert len(seen) == 2


def test_a_row_that_is_null_does_not_end_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the second page would be created again."""

    def pages(handler: BaseHTTPRequestHandler) -> None:
        is_second = "after=file-1" in handler.path
        data = [{"id": "file-2", "object": "file"}] if is_second else [{"id": "file-1", "object": "file"}, None]
        reply(handler, 200, {"object": "list", "data": data, "has_more": not is_second})

    with served(pages, monkeypatch) as (connection, _):
        assert [file.id for file in all_rows(connection.control.files.list())] == ["file-1", "file-2"]


def test_a_list_that_invents_rows_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))

    def invent(handler: BaseHTTPRequestHandler) -> None:
        one = {"id": f"file-{next(numbers)}", "object": "file"}
        reply(handler, 200, {"object": "list", "data": [one], "has_more": True})

    monkeypatch.setattr(paging, "MOST_PAGES", 20)
    with served(invent, monkeypatch) as (connection, seen), pytest.raises(FinetuneError, match="has no end"):
        all_rows(connection.control.files.list())
    assert len(seen) == 20


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_comes_byte_by_byte_ends(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each byte comes in time for a read, so only a limit for the whole call ends it."""

    def dribble(handler: BaseHTTPRequestHandler) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n"
        handler.wfile.write(head + (b"" if part == "head" else b"\r\n"))
        for _ in range(100):
            handler.wfile.write(b"x" if part == "head" else b" ")
            time.sleep(0.05)

    monkeypatch.setattr(bounded_client, "ENDS_AFTER", 2)
    monkeypatch.setattr(bounded_client, "SAYS_AFTER", 0.1)
    began = time.monotonic()
    with served(dribble, monkeypatch) as (connection, seen), pytest.raises(openai.APITimeoutError):
        connection.client.with_options(timeout=0.3).fine_tuning.jobs.list()
    assert time.monotonic() - began < 2
    assert len(seen) == 1
    assert "Waiting for the answer to GET /fine_tuning/jobs" in capsys.readouterr().err


def test_a_streamed_answer_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        for word in ("a", "b", "c"):
            choice = {"index": 0, "delta": {"content": word}}
            piece = {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}
            handler.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
            time.sleep(0.2)
        handler.wfile.write(b"data: [DONE]\n\n")

    monkeypatch.setattr(bounded_client, "ENDS_AFTER", 1)
    with served(stream, monkeypatch) as (connection, _):
        client = connection.client.with_options(timeout=0.3)
        pieces = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "abc"


@pytest.mark.parametrize("ahead", [-300, 0, 300])
def test_the_clock_is_that_of_the_provider(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        monkeypatch.setattr(handler, "date_time_string", lambda: formatted(time.time() + ahead))
        reply(handler, 200, {"object": "list", "data": []})

    formatted = BaseHTTPRequestHandler.date_time_string.__get__(object())
    with served(answer, monkeypatch) as (connection, _):
        connection.control.models.list()
        assert abs(connection.clock.now() - time.time() - ahead) < 2


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 2026 99:99:99 GMT"])
def test_a_date_that_is_none_changes_no_clock(date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        monkeypatch.setattr(handler, "date_time_string", lambda: date)
        reply(handler, 200, {"object": "list", "data": []})

    with served(answer, monkeypatch) as (connection, _):
        connection.control.models.list()
        assert abs(connection.clock.now() - time.time()) < 1
