"""Test HTTP itself: keys, headers, methods, addresses of other clients, cross-origin requests, and a busy server."""

import errno
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from asgi import KEY, Client, Sent, add_file, add_job, idle_engine
from typer.testing import CliRunner

from finetune.cli import app as cli
from finetune.engine.api import file_routes
from finetune.engine.api.app import ROUTES
from finetune.engine.api.not_served import NOT_SERVED
from finetune.engine.embedded import embedded
from finetune.engine.store import Store

ORIGIN = "http://localhost:3000"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with idle_engine(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def with_cors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with idle_engine(tmp_path, monkeypatch, cors=ORIGIN) as found:
        yield found


# Keys


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer {KEY}"}, 200),
        ({"authorization": f"BEARER  {KEY} "}, 200),
        ({"authorization": "", "api-key": KEY}, 200),
        ({"authorization": KEY}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"authorization": f"Bearer {KEY}x"}, 401),
        ({"authorization": f"Bearer {KEY[:-1]}"}, 401),
        ({"authorization": "", "api-key": ""}, 401),
        ({"authorization": "", "api-key": f"Bearer {KEY}"}, 401),
        ({"authorization": "Bearer wrong", "api-key": KEY}, 401),
        ({"authorization": "Bearer "}, 401),
    ],
)
def test_the_key_comes_as_a_bearer_token_or_as_azures_header(
    client: Client, headers: dict[str, str], status: int
) -> None:
    assert client.send(Sent("GET", "/v1/models", headers=headers)).status == status


def test_health_needs_no_key_and_says_nothing_but_ok(client: Client) -> None:
    for key in ("", "Bearer wrong"):
        answer = client.send(Sent("GET", "/health", headers={"authorization": key}))
        assert (answer.status, answer.json()) == (200, {"status": "ok"})
    for path in ("/health/", "/health/x", "/v1/health", "/healthy", "//health"):
        assert client.send(Sent("GET", path, headers={"authorization": ""})).status == 401


# Headers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (Sent("GET", "/v1/models"), 200),
        (Sent("GET", "/v1/models", headers={"authorization": ""}), 401),
        (Sent("GET", "/v1/files/file-none"), 404),
        (Sent("PUT", "/v1/files"), 405),
        (Sent("POST", "/v1/batches", headers={"content-length": "99999999"}), 413),
        (Sent("GET", "/v1/models", headers={"host": "evil.example"}), 421),
        (Sent("GET", "/health"), 200),
    ],
)
def test_every_answer_has_the_headers_of_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: Sent, status: int
) -> None:
    with idle_engine(tmp_path, monkeypatch, hosts=frozenset({"127.0.0.1"})) as client:
        answer = client.send(sent)
    assert answer.status == status
    assert re.fullmatch("req_[0-9a-f]{24}", answer.headers["x-request-id"])
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert answer.headers["openai-version"] == "2020-10-01"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/files", "GET, HEAD, POST"),
        ("/v1/files/file-none", "DELETE, GET, HEAD"),
        ("/v1/models/a/b", "DELETE, GET, HEAD"),
        ("/v1/fine_tuning/jobs", "GET, HEAD, POST"),
        ("/v1/fine_tuning/jobs/a/cancel", "POST"),
        ("/v1/chat/completions", "POST"),
        ("/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_answered_with_the_right_ones(client: Client, path: str, methods: str) -> None:
    for method in ("PUT", "PATCH", "OPTIONS"):
        answer = client.send(Sent(method, path))
        assert (answer.status, answer.headers["allow"]) == (405, methods)
        assert answer.error["type"] == "invalid_request_error"


def test_head_is_answered_on_every_route_that_get_is(client: Client, tmp_path: Path) -> None:
    names = {"{id}": add_file(client)["id"], "{id:path}": "tiny"}
    add_job(tmp_path, 1)
    for route in ROUTES:
        path = route.path.replace("/jobs/{id}", "/jobs/ftjob-1").replace("/batches/{id}", "/batches/none")
        for name, value in names.items():
            path = path.replace(name, value)
        if "GET" in (route.methods or ()):
            head, get = (client.send(Sent(method, path)) for method in ("HEAD", "GET"))
            assert head.status == get.status, path
            assert head.headers["content-type"] == get.headers["content-type"]


def test_head_has_no_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    with embedded() as address, openai.OpenAI(base_url=address.base_url, api_key=address.key) as api:
        answer = api._client.request("HEAD", f"{address.base_url}/files", headers=api.auth_headers)
        assert (answer.status_code, answer.content) == (200, b"")


# What this server does not have


@pytest.mark.parametrize(("start", "what", "instead"), NOT_SERVED)
def test_what_is_not_served_says_what_to_use_instead(client: Client, start: str, what: str, instead: str) -> None:
    paths = [(method, f"{start}/id-1") for method in ("GET", "POST", "DELETE")] + [("GET", start)]
    paths += [("POST", start)] if start != "/v1/chat/completions" else []
    for method, path in paths:
        answer = client.send(Sent(method, path))
        assert (answer.status, answer.error["code"]) == (404, "not_supported")
        assert what in answer.error["message"]
        assert instead in answer.error["message"]
    assert client.send(Sent("GET", start, headers={"authorization": ""})).status == 401


def test_no_route_is_in_the_table_of_what_is_not_served() -> None:
    for route in ROUTES:
        for start, *_ in NOT_SERVED:
            assert not route.path.startswith(f"{start}/")
            assert route.path != start or start == "/v1/chat/completions"


@pytest.mark.parametrize("call", ["responses", "embeddings", "moderations", "stored", "grader"])
def test_openais_package_gets_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    with embedded() as address, openai.OpenAI(base_url=address.base_url, api_key=address.key, max_retries=0) as api:
        calls: dict[str, Any] = {
            "responses": lambda: api.responses.create(model="tiny", input="a"),
            "embeddings": lambda: api.embeddings.create(model="tiny", input="a"),
            "moderations": lambda: api.moderations.create(input="a"),
            "stored": lambda: api.chat.completions.list(),
            "grader": lambda: api.fine_tuning.alpha.graders.validate(grader={"type": "none"}),  # type: ignore[arg-type]
        }
        with pytest.raises(openai.NotFoundError, match="This server does not have"):
            calls[call]()


@pytest.mark.parametrize("path", ["/chat/completions", "/fine_tuning/jobs", "/models", "/v1/v1/models", "/files/a"])
def test_a_base_url_without_v1_is_named_as_the_cause(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 404
    assert "must end in /v1" in answer.error["message"]


# Azure's client


@pytest.mark.parametrize("form", ["base_url", "endpoint"])
def test_azures_client_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    with embedded() as address:
        place: dict[str, Any] = {"base_url": address.base_url}
        if form == "endpoint":
            place = {"azure_endpoint": address.base_url.removesuffix("/v1")}
        with openai.AzureOpenAI(api_key=address.key, api_version="2024-10-21", max_retries=0, **place) as api:
            file = api.files.create(file=("a.jsonl", b'{"a": 1}\n'), purpose="fine-tune")
            assert api.files.content(file.id).content == b'{"a": 1}\n'
            assert [one.id for one in api.files.list()] == [file.id]
            assert list(api.fine_tuning.jobs.list()) == []
            assert isinstance(api.models.list().data, list)
            with pytest.raises(openai.NotFoundError, match="The model `none` does not exist"):
                api.chat.completions.create(model="none", messages=[{"role": "user", "content": "a"}])
        with (
            openai.AzureOpenAI(api_key="wrong", api_version="2024-10-21", max_retries=0, **place) as api,
            pytest.raises(openai.AuthenticationError),
        ):
            api.models.list()


def test_a_deployment_is_the_model_that_the_body_names(client: Client) -> None:
    body = {"model": "none", "messages": [{"role": "user", "content": "a"}]}
    path = "/openai/deployments/{}/chat/completions?api-version=2024-10-21"
    assert client.post(path.format("none"), body).status == 404
    answer = client.post(path.format("tiny"), body)
    assert (answer.status, answer.error["param"]) == (400, "model")
    for more in ({"model": None}, {}):  # LangChain's client for Azure sends null
        answer = client.post(path.format("none"), {"messages": body["messages"], **more})
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")


def test_an_address_without_a_slash_after_its_version_names_the_path(client: Client) -> None:
    """The SDK's former command appends paths to the address that it was given."""
    answer = client.send(Sent("GET", "/v1models"))
    assert answer.status == 404
    assert "The path is /v1/models" in answer.error["message"]


# Cross-origin requests


def test_without_cors_no_origin_is_allowed(client: Client) -> None:
    preflight = client.send(Sent("OPTIONS", "/v1/models", headers={"authorization": "", "origin": ORIGIN, **PREFLIGHT}))
    assert preflight.status == 401
    answer = client.send(Sent("GET", "/v1/models", headers={"origin": ORIGIN}))
    assert answer.status == 200
    assert not [name for name in (*preflight.headers, *answer.headers) if name.startswith("access-control")]


def test_the_pages_of_one_origin_may_read_answers(with_cors: Client) -> None:
    preflight = with_cors.send(
        Sent("OPTIONS", "/v1/chat/completions", headers={"authorization": "", "origin": ORIGIN, **PREFLIGHT})
    )
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert preflight.headers["x-request-id"].startswith("req_")
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"
    for key, status in ((f"Bearer {KEY}", 200), ("", 401)):  # a page may read why it was refused
        answer = with_cors.send(Sent("GET", "/v1/models", headers={"authorization": key, "origin": ORIGIN}))
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["http://localhost:3001", "https://localhost:3000", "null", f"{ORIGIN}.evil.example"]
)
def test_the_pages_of_other_origins_may_not(with_cors: Client, origin: str) -> None:
    headers = {"authorization": "", "origin": origin, **PREFLIGHT}
    preflight = with_cors.send(Sent("OPTIONS", "/v1/models", headers=headers))
    assert preflight.status == 401
    answer = with_cors.send(Sent("GET", "/v1/models", headers={"origin": origin}))
    assert not [name for name in (*preflight.headers, *answer.headers) if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["*", "localhost:3000", "http://a/", "http://A", "ftp://a", "", "http://a,http://b"])
def test_the_command_refuses_what_is_no_origin(origin: str) -> None:
    result = CliRunner().invoke(cli, ["serve", "--cors", origin])
    assert result.exit_code != 0
    assert "is no origin" in str(result.exception) + result.output


# A busy server


@pytest.mark.parametrize(
    ("error", "status", "is_final"),
    [
        (sqlite3.OperationalError("database is locked"), 503, False),
        (sqlite3.OperationalError("database table is locked"), 503, False),
        (OSError(errno.EMFILE, "Too many open files"), 503, False),
        (OSError(errno.ENOSPC, "No space left on device"), 507, True),
        (sqlite3.OperationalError("database or disk is full"), 507, True),
        (sqlite3.DatabaseError("database disk image is malformed"), 507, True),
    ],
)
def test_a_busy_server_says_when_to_ask_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, is_final: bool
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(file_routes, "find_file", fail)
    answer = client.get("/v1/files/file-none")
    assert answer.status == status
    assert answer.headers.get("retry-after") == (None if is_final else "1")
    assert answer.headers.get("x-should-retry") == ("false" if is_final else None)
    if not is_final:
        assert answer.error["code"] == "server_is_overloaded"


# Damaged rows


def test_damaged_rows_of_the_database_are_still_listed(client: Client, tmp_path: Path) -> None:
    good = add_job(tmp_path, 1)
    damaged = add_job(tmp_path, 2, "failed", asked="{", resolved="[1]", error="{cut", integrations="{}")
    store = Store(tmp_path)
    store.execute("UPDATE jobs SET metadata = '{\"a\": NaN}' WHERE id = ?", damaged)
    store.execute("INSERT INTO events VALUES (NULL, 'e', ?, 1, 'info', 'message', 'a', '{cut', NULL)", damaged)
    store.execute("INSERT INTO checkpoints VALUES (NULL, 'c', ?, 1, 1, 'm', NULL, '7')", damaged)
    found = client.get("/v1/fine_tuning/jobs").json()["data"]
    assert [one["id"] for one in found] == [damaged, good]
    assert client.get(f"/v1/fine_tuning/jobs/{damaged}").json() == found[0]
    assert (found[0]["hyperparameters"], found[0]["metadata"], found[0]["integrations"]) == ({}, None, [])
    assert found[0]["error"]["code"] == "damaged_record"
    assert client.get(f"/v1/fine_tuning/jobs/{damaged}/events").json()["data"][0]["data"] == {}
    checkpoint = client.get(f"/v1/fine_tuning/jobs/{damaged}/checkpoints").json()["data"][0]
    assert (checkpoint["metrics"], checkpoint["result_files"]) == ({}, [])


def test_a_home_of_an_earlier_version_with_damaged_metadata_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path).transaction() as db:
        db.execute("DROP TRIGGER copy_metadata")
        db.execute("DROP TABLE job_metadata")
    add_job_without_store(tmp_path)
    with idle_engine(tmp_path, monkeypatch) as client:
        assert len(client.get("/v1/fine_tuning/jobs").json()["data"]) == 1


def add_job_without_store(home: Path) -> None:
    with sqlite3.connect(home / "engine.db") as db:
        db.execute(
            "INSERT INTO jobs (id, created_at, finished_at, status, model, seed, training_file, asked, metadata)"
            " VALUES ('ftjob-1', 1, 1, 'succeeded', 'tiny', 1, 'file-none', '{}', '{cut')"
        )
    db.close()


# Tokenizers


def test_a_tokenizer_that_changes_is_read_again(client: Client, tmp_path: Path) -> None:
    def tokens() -> list[int]:
        answer = client.post("/tokenize", {"model": "tiny", "prompt": "ab"})
        assert answer.status == 200, answer.body
        return list(answer.json()["tokens"])

    before = tokens()
    path = tmp_path / "bases" / "tiny" / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    a, b = (re.search(rf'"{letter}": ?\d+', text) for letter in "ab")
    assert a
    assert b
    swapped = text.replace(a[0], "A_HERE").replace(b[0], b[0].replace('"b"', '"a"'))
    path.write_text(swapped.replace("A_HERE", a[0].replace('"a"', '"b"')) + "\n", encoding="utf-8")
    assert tokens() == before[::-1] != before
    path.write_text("{", encoding="utf-8")
    answer = client.post("/tokenize", {"model": "tiny", "prompt": "ab"})
    assert (answer.status, answer.error["param"]) == (404, "model")
    assert str(tmp_path) not in answer.error["message"]
