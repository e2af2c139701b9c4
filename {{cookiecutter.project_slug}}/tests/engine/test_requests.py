"""Test requests that no good client sends: each is refused with OpenAI's envelope and leaves nothing behind."""

import json
import logging
import socket
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openai
import pytest
from asgi import KEY, Client, Sent, empty_home, form

from finetune.engine import batch_queue, job_queue, uploads
from finetune.engine.api import guard
from finetune.engine.api.app import make_app
from finetune.engine.embedded import embedded
from finetune.engine.store import Store

FORM = "multipart/form-data; boundary=b0undary"
JSONL = b'{"messages": []}\n'
JOBS, CHAT = "/v1/fine_tuning/jobs", "/v1/chat/completions"
BATCH = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": "file-none"}
UPLOAD = {"filename": "a", "mime_type": "text/plain", "purpose": "batch", "bytes": 1}
MESSAGE = {"role": "user", "content": "a"}
HALF = "\ud800"  # half of a surrogate pair: no Unicode text has it alone


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    empty_home(tmp_path / "home")
    for module in ("job_queue", "worker_launcher"):
        monkeypatch.setattr(f"finetune.engine.{module}.start_worker", lambda _: None)
    monkeypatch.setattr("finetune.engine.batch_runner.BatchRunner._work_on_all", lambda _: None)
    return tmp_path / "home"


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    app = make_app(Store(home), KEY)
    found = Client(app)
    yield found
    found.close()
    app.state.engine.close()


def left(home: Path) -> tuple[Any, ...]:
    """Return what a request may leave behind: the rows of each table, and the files."""
    with sqlite3.connect(home / "engine.db") as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        rows = {name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables}
    db.close()
    folders = ("files", "uploads", "batches", "jobs", "models")
    return rows, sorted(path for name in folders for path in (home / name).rglob("*"))


def upload(client: Client, *parts: tuple[str, str | None, bytes], to: str = "/v1/files", kind: str = FORM) -> Any:
    return client.post(to, form(*parts), **{"content-type": kind})


def file_of(client: Client, purpose: str = "fine-tune", content: bytes = JSONL) -> str:
    answer = upload(client, ("purpose", None, purpose.encode()), ("file", "a.jsonl", content))
    assert answer.status == 200, answer.body
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (JOBS, {"model": HALF, "training_file": "file-none"}),
        (JOBS, {"model": "tiny", "training_file": HALF}),
        (JOBS, {"model": "tiny", "training_file": "FILE", "suffix": HALF}),
        (JOBS, {"model": "tiny", "training_file": "FILE", "metadata": {"a": HALF}}),
        (JOBS, {"model": "tiny", "training_file": "FILE", "metadata": {HALF: "a"}}),
        (JOBS, {"model": "tiny", "training_file": "FILE", "hyperparameters": {HALF: 1}}),
        (JOBS, {"model": "tiny", "training_file": "FILE", HALF: 1}),
        ("/v1/batches", {**BATCH, "metadata": {"a": HALF}}),
        ("/v1/batches", {**BATCH, "input_file_id": HALF}),
        ("/v1/uploads", {**UPLOAD, "filename": HALF}),
        ("/v1/uploads", {**UPLOAD, "mime_type": HALF}),
        ("/v1/uploads/UPLOAD/complete", {"part_ids": [HALF]}),
        (CHAT, {"model": "tiny", "messages": [{"role": "user", "content": HALF}]}),
        (CHAT, {"model": "tiny", "messages": [{"role": HALF, "content": "a"}]}),
        (CHAT, {"model": "tiny", "messages": [MESSAGE], "stop": HALF}),
        (CHAT, {"model": "tiny", "messages": [MESSAGE], "user": HALF}),
        (CHAT, {"model": "tiny", "messages": [MESSAGE], "seed": HALF}),
        ("/tokenize", {"model": "tiny", "prompt": HALF}),
    ],
)
@pytest.mark.parametrize("escaped", [True, False])
def test_half_of_a_surrogate_pair_is_refused_in_every_field(
    client: Client, home: Path, path: str, body: dict[str, Any], escaped: bool
) -> None:
    names = {"FILE": file_of(client), "UPLOAD": str(client.post("/v1/uploads", UPLOAD).json()["id"])}
    text = json.dumps(body, ensure_ascii=escaped)
    for name, found in names.items():
        text, path = text.replace(name, found), path.replace(name, found)
    before = left(home)
    answer = client.post(path, text.encode("utf-8", "surrogatepass"))
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert left(home) == before


@pytest.mark.parametrize("target", ["/v1/files/%ED%A0%80", "/v1/files?purpose=%ED%A0%80", f"{JOBS}?metadata[%FF]=a"])
def test_an_address_that_is_not_utf8_is_refused(client: Client, target: str) -> None:
    assert client.get(target).status == 400
    assert client.get(target).error["message"] == "The address of your request is not UTF-8."


PURPOSE = ("purpose", None, b"fine-tune")
FILE = ("file", "a", JSONL)


@pytest.mark.parametrize(
    ("content", "kind", "param"),
    [
        (form(PURPOSE, ("file", HALF, JSONL)), FORM, "file"),
        (form(PURPOSE, ("file", "a\0b", JSONL)), FORM, "file"),
        (form(("purpose", None, b"\xed\xa0\x80"), FILE), FORM, "purpose"),
        (form(PURPOSE, PURPOSE, FILE), FORM, "purpose"),
        (form(PURPOSE, FILE, ("file", None, b"again")), FORM, "file"),
        (form(PURPOSE, FILE, FILE), FORM, None),
        (form(PURPOSE, ("file", None, JSONL)), FORM, "file"),
        (form(FILE), FORM, "purpose"),
        (form(FILE, ("purpose", "a", b"fine-tune")), FORM, None),
        (form(PURPOSE), FORM, "file"),
        (form(PURPOSE, FILE, boundary="other"), FORM, None),
        (form(PURPOSE, FILE, end=False)[:-9], FORM, "file"),
        (form(PURPOSE, ("file", "\\ud800", JSONL)), f"{FORM}; charset=unicode_escape", None),
        (form(PURPOSE, FILE), f"{FORM}; charset=idna", None),
        (form(PURPOSE, FILE), "multipart/form-data", None),
        (form(PURPOSE, FILE), f"multipart/form-data; boundary={'b' * 300}", None),
        (form(PURPOSE, FILE), "multipart/form-data; boundary=\xe9", None),
        (form(PURPOSE, FILE), "application/json", "file"),
        (form(PURPOSE, FILE), "", "file"),
        (b"purpose=fine-tune&file=a", "application/x-www-form-urlencoded", "file"),
        (b"", FORM, "file"),
        (form(*[(f"field{n}", None, b"a") for n in range(100)], FILE), FORM, None),
        (form(("purpose", None, b"a" * 100_000), FILE), FORM, None),
    ],
)
def test_a_broken_form_is_refused(client: Client, home: Path, content: bytes, kind: str, param: str | None) -> None:
    before = left(home)
    answer = client.post("/v1/files", content, **{"content-type": kind})
    assert answer.status == 400, answer.body
    assert answer.error["param"] == param
    assert left(home) == before


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"stop": 5}, "stop"),
        (CHAT, {"stop": {"a": 1}}, "stop"),
        (CHAT, {"seed": 10**30}, "seed"),
        (CHAT, {"seed": 1.5}, "seed"),
        (CHAT, {"n": 2**63}, "n"),
        (CHAT, {"max_tokens": 2**64}, "max_tokens"),
        (CHAT, {"messages": {}}, "messages"),
        (CHAT, {"messages": [[]]}, "messages[0]"),
        (CHAT, {"model": []}, "model"),
        (CHAT, {"max_tokens": 3, "max_completion_tokens": 5}, "max_completion_tokens"),
        (JOBS, {"training_file": []}, "training_file"),
        (JOBS, {"seed": 2**63}, "seed"),
        (JOBS, {"method": []}, "method"),
        (JOBS, {"metadata": []}, "metadata"),
        (JOBS, {"metadata": {"a": "\0"}}, "metadata"),
        (JOBS, {"suffix": "a\0"}, "suffix"),
        (JOBS, {"hyperparameters": {"n_epochs": 10**400}}, "hyperparameters.n_epochs"),
        ("/v1/uploads", {"bytes": 2**63}, "bytes"),
        ("/v1/uploads", {"filename": "a" * 1025}, "filename"),
        ("/v1/uploads", {"purpose": {}}, "purpose"),
        ("/v1/batches", {"completion_window": 24}, "completion_window"),
        ("/tokenize", {"prompt": []}, "prompt"),
    ],
)
def test_a_wrong_type_or_range_is_refused(
    client: Client, home: Path, path: str, body: dict[str, Any], param: str
) -> None:
    model = {"model": "tiny"}
    chat, job = {**model, "messages": [MESSAGE]}, {**model, "training_file": file_of(client)}
    valid: dict[str, Any] = {CHAT: chat, JOBS: job, "/v1/uploads": UPLOAD, "/v1/batches": BATCH, "/tokenize": model}
    before = left(home)
    answer = client.post(path, {**valid[path], **body})
    assert (answer.status, answer.error["param"]) == (400, param)
    assert left(home) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": NaN}',
        b'{"model": -Infinity}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"\x00",
        b"{}{}",
        b"null",
    ],
)
@pytest.mark.parametrize("path", [JOBS, CHAT, "/v1/uploads", "/v1/batches", "/v1/uploads/none/complete", "/tokenize"])
def test_a_body_that_is_no_json_object_is_refused(client: Client, path: str, content: bytes) -> None:
    answer = client.post(path, content)
    assert answer.status == 400
    assert "JSON body" in answer.error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "a", ""])
def test_a_body_of_another_type_is_refused(client: Client, kind: str) -> None:
    answer = client.post(JOBS, {"model": "tiny"}, **{"content-type": kind})
    assert answer.status == 400
    assert "expected application/json" in answer.error["message"]


@pytest.mark.parametrize("limit", ["0", "-1", "101", "9" * 5000, "٣", "1e1", "", "%00", "1.0"])
def test_a_limit_out_of_its_range_is_refused(client: Client, limit: str) -> None:
    for path in (JOBS, "/v1/batches"):
        answer = client.get(f"{path}?limit={quote(limit, safe='%')}")
        assert (answer.status, answer.error["param"]) == (400, "limit")


def test_bodies_over_their_limits_are_refused_before_or_while_they_are_read(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (uploads.MAX_FILE, uploads.MAX_PART) == (512 * 1024**2, 64 * 1024**2)
    assert guard.MAX_JSON < guard.MAX_TEXT < uploads.MAX_PART
    upload_id = client.post("/v1/uploads", UPLOAD).json()["id"]
    for name, value in (("MAX_FILE", 2000), ("MAX_PART", 1000)):
        monkeypatch.setattr(uploads, name, value)
    for name, value in (("MAX_JSON", 400), ("MAX_TEXT", 600), ("FORM", 500)):
        monkeypatch.setattr(guard, name, value)
    limits = {JOBS: 400, "/v1/nowhere": 400, CHAT: 600, "/tokenize": 600, "/v1/files": 2500}
    limits[f"/v1/uploads/{upload_id}/parts"] = 1500
    before = left(home)
    for path, limit in limits.items():
        kind = {"content-type": FORM if limit > 1000 else "application/json"}
        announced = client.send(Sent("POST", path, (b"a",) * 5, {**kind, "content-length": str(limit + 1)}))
        assert (announced.status, announced.chunks_read) == (413, 0)
        assert announced.error["code"] == "request_too_large"
        if path == "/v1/nowhere":
            continue
        chunks = (form(("file" if path == "/v1/files" else "data", "a", b"a" * 100), end=False), *[b"a" * 100] * 200)
        read = client.send(Sent("POST", path, chunks, kind))
        assert (read.status, read.error["param"]) == (413, None)
        assert read.chunks_read < 30
    assert left(home) == before


def test_a_file_and_a_part_over_their_limits_are_refused(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = client.post("/v1/uploads", {**UPLOAD, "bytes": 20}).json()["id"]
    monkeypatch.setattr(uploads, "MAX_FILE", 10)
    monkeypatch.setattr(uploads, "MAX_PART", 10)
    for path, name in (("/v1/files", "file"), (f"/v1/uploads/{upload_id}/parts", "data")):
        for size, status in ((11, 413), (10, 200)):
            parts = [(name, "a", b"a" * size), *([("purpose", None, b"user_data")] if name == "file" else [])]
            before = left(home)
            answer = upload(client, *parts, to=path)
            assert answer.status == status
            if status == 413:
                assert answer.error["param"] == name
                assert left(home) == before


def test_a_part_that_is_named_often_is_not_written_often(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = client.post("/v1/uploads", {**UPLOAD, "bytes": 10}).json()["id"]
    part = upload(client, ("data", "a", b"a" * 10), to=f"/v1/uploads/{upload_id}/parts").json()["id"]
    before = left(home)
    monkeypatch.setattr(Store, "add_file", None)  # nothing is written
    answer = client.post(f"/v1/uploads/{upload_id}/complete", {"part_ids": [part] * 100_000})
    assert (answer.status, answer.error["param"]) == (400, "part_ids")
    assert "1000000 bytes" in answer.error["message"]
    assert left(home) == before


def test_a_large_upload_is_not_held_in_memory(client: Client) -> None:
    head = form(("purpose", None, b"user_data"), ("file", "a", b""), end=False)[:-2]
    chunks = (head, *[b"a" * 1024**2] * 40, b"\r\n--b0undary--\r\n")
    tracemalloc.start()
    answer = client.send(Sent("POST", "/v1/files", chunks, {"content-type": FORM}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.status, answer.json()["bytes"]) == (200, 40 * 1024**2)
    assert peak < 10_000_000


@pytest.mark.parametrize("path", [JOBS, CHAT, "/v1/files"])
def test_a_client_that_goes_away_leaves_nothing_behind(client: Client, home: Path, path: str) -> None:
    kind = FORM if path == "/v1/files" else "application/json"
    before = left(home)
    chunks = (form(PURPOSE, FILE)[:-12], b"rest") if kind == FORM else (b'{"model":', b'"tiny"}')
    answer = client.send(Sent("POST", path, chunks, {"content-type": kind}, cut=True))
    assert (answer.status, answer.error["code"]) == (400, None)
    assert left(home) == before


@pytest.mark.parametrize("value", ["bytes=a", "lines=1-2", "bytes=9999-99999", "bytes=5-1", "bytes="])
def test_a_wrong_range_is_refused_in_the_envelope(client: Client, value: str) -> None:
    answer = client.send(Sent("GET", f"/v1/files/{file_of(client)}/content", headers={"range": value}))
    assert answer.status in (400, 416)
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1/files/", 404),
        ("POST", "/v1/fine_tuning/jobs/", 404),
        ("PATCH", "/v1/files", 405),
        ("GET", "/", 404),
    ],
)
def test_an_unknown_route_is_not_redirected(client: Client, method: str, target: str, status: int) -> None:
    assert client.send(Sent(method, target)).status == status
    assert client.send(Sent(method, target)).error["message"]


class Broken(Exception):
    """An unforeseen error, which names a path."""


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (JOBS, (Store, "add_event")),
        (JOBS, (job_queue, "get")),
        ("/v1/uploads", (uploads, "get")),
        ("/v1/batches", (batch_queue, "get")),
        ("/v1/files", (Store, "digest_key")),
        ("/v1/uploads/ID/parts", (Store, "execute")),
        ("/v1/uploads/ID/complete", (uploads, "end_pending")),
    ],
)
def test_an_unforeseen_error_leaves_nothing_behind_and_only_the_log_has_it(
    client: Client,
    home: Path,
    path: str,
    what: tuple[Any, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload_id = client.post("/v1/uploads", {**UPLOAD, "bytes": 2}).json()["id"]
    path = path.replace("ID", upload_id)
    part = upload(client, ("data", "a", b"ab"), to=f"/v1/uploads/{upload_id}/parts").json()["id"]
    bodies: dict[str, Any] = {
        JOBS: {"model": "tiny", "training_file": file_of(client), "metadata": {"a": "b"}},
        "/v1/uploads": UPLOAD,
        "/v1/batches": {**BATCH, "input_file_id": file_of(client, "batch")},
        "/v1/files": form(PURPOSE, FILE),
        f"/v1/uploads/{upload_id}/parts": form(("data", "a", b"cd")),
        f"/v1/uploads/{upload_id}/complete": {"part_ids": [part]},
    }

    def fail(*_: Any, **__: Any) -> None:
        raise Broken(f"{home}/engine.db and {__file__}")

    log: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    before = left(home)
    monkeypatch.setattr(guard.LOG, "handlers", [handler])
    monkeypatch.setattr(*what, fail)
    kind = {"content-type": FORM} if isinstance(bodies[path], bytes) else {}
    answer = client.post(path, bodies[path], **kind)
    monkeypatch.undo()
    assert (answer.status, answer.error["type"], answer.error["code"]) == (500, "server_error", "server_error")
    assert str(home).encode() not in answer.body
    assert answer.headers["x-request-id"] in answer.error["message"]
    assert answer.headers["x-request-id"] in log[0]
    assert f"Broken: {home}/engine.db" in log[0]
    assert left(home) == before


def test_a_job_whose_worker_cannot_start_is_there_and_answered(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Store) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(job_queue, "start_worker", fail)
    answer = client.post(JOBS, {"model": "tiny", "training_file": file_of(client)})
    assert answer.status == 200
    assert [job["id"] for job in client.get(JOBS).json()["data"]] == [answer.json()["id"]]


HEAD = b"POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer KEY\r\n"
CHUNKED = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"no HTTP at all\r\n\r\n",
        HEAD + b"Content-Length: many\r\n\r\n{}",
        HEAD + b"Content-Length: -1\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + b"A: " + b"a" * 100_000 + b"\r\n\r\n",
        CHUNKED + b"no length\r\n{}\r\n",
        CHUNKED + b"2\r\n{}BROKEN",
        CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_broken_http_is_refused_in_the_envelope(home: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(home))
    with embedded() as address:
        port = int(address.base_url.split(":")[2].removesuffix("/v1"))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(content.replace(b"KEY", address.key.encode()))
            answer = b""
            while b'"code"' not in answer and (part := connection.recv(65536)):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_a_client_gets_the_answer_to_a_body_over_the_limit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(home))
    with embedded() as address, openai.OpenAI(base_url=address.base_url, api_key=address.key, max_retries=0) as api:
        with pytest.raises(openai.APIStatusError, match="at most") as caught:
            api.post("/batches", cast_to=object, content=b"{" + b" " * guard.MAX_JSON * 2)
        assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
        assert api.models.list().data
