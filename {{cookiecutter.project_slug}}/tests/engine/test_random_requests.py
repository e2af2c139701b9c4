"""Send random requests to all routes: none ends in an error of the server, and none that is refused leaves anything.

FINETUNE_RANDOM_REQUESTS sets how many, FINETUNE_RANDOM_SEED sets which. `make fuzz` sends 20,000.
"""

import json
import os
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from asgi import KEY, Client, Received, Sent, empty_home, form
from random_requests import BODIES, DESCRIPTION, FORMS, WITHOUT_BODY, RandomRequests

from finetune.engine.api.app import make_app
from finetune.engine.fingerprint import ADAPTER_FILES
from finetune.engine.inference.generation_types import Delta, GeneratedAnswer, GenerationRequest, Listener
from finetune.engine.store import Store

REQUESTS = int(os.environ.get("FINETUNE_RANDOM_REQUESTS", "1500"))
SEED = int(os.environ.get("FINETUNE_RANDOM_SEED", "0"))
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home. Its engine answers all prompts with one word, and neither trains nor answers batches."""
    empty_home(tmp_path)

    def answer(_: Any, request: GenerationRequest, listener: Listener | None = None, **more: Any) -> Any:
        future: Future[GeneratedAnswer] = Future()
        if listener:
            listener(Delta("a", []))
        future.set_result(GeneratedAnswer("a", "stop", 1, 1, []))
        return future

    monkeypatch.setattr("finetune.engine.inference.generator.Generator.submit", answer)
    for module in ("job_queue", "worker_launcher"):
        monkeypatch.setattr(f"finetune.engine.{module}.start_worker", lambda _: None)
    monkeypatch.setattr("finetune.engine.batch_runner.BatchRunner._work_on_all", lambda _: None)
    monkeypatch.setattr("finetune.engine.bases.wheel_weights", lambda: None)  # converting them takes long
    return tmp_path


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    app = make_app(Store(home), KEY, HOSTS)
    found = Client(app)
    yield found
    found.close()
    app.state.engine.close()


def test_the_description_has_a_body_for_each_route_that_takes_one() -> None:
    posts = {path for path, method in DESCRIPTION if method == "POST"}
    assert posts == {*BODIES, *FORMS, *(path for path in posts if path.endswith(WITHOUT_BODY))}


def add_models(store: Store, count: int) -> None:
    """Add fine-tuned models, each with its job and its checkpoint. Every other one has lost its adapter."""
    for number in range(count):
        name, job = f"ft:tiny:local::{number}", f"ftjob-{number}"
        folder = store.home / "models" / str(number)
        folder.mkdir()
        for file in ADAPTER_FILES if number % 2 else ():
            (folder / file).touch()
        with store.transaction() as db:
            db.execute(
                "INSERT INTO jobs (id, created_at, status, model, seed, training_file, asked, fine_tuned_model)"
                " VALUES (?, 1, ?, 'tiny', 1, 'file-none', '{}', ?)",
                (job, "queued" if number % 2 else "succeeded", name),
            )
            db.execute("INSERT INTO models VALUES (NULL, ?, 1, ?, 'tiny', 'float32', ?)", (name, job, str(number)))
            db.execute(
                "INSERT INTO checkpoints VALUES (NULL, ?, ?, 1, 1, ?, '{}', '[]')", (f"ftckpt_{number}", job, name)
            )


def left(db: sqlite3.Connection, home: Path, tables: list[str]) -> tuple[Any, ...]:
    rows = [db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables]
    folders = [home / "files", home / "batches", home / "uploads", *(home / "uploads").iterdir()]
    return rows, [len(os.listdir(folder)) for folder in folders]


def is_json(sent: Sent, answer: Received) -> bool:
    """Return whether an answer is one JSON object: neither a file's content nor a stream."""
    return "/content" not in sent.target and "event-stream" not in answer.headers["content-type"]


def check(sent: Sent, answer: Received, home: Path) -> None:
    """Check what is true of every answer."""
    assert answer.status < 500, answer.body
    assert not 300 <= answer.status < 400
    for path in (str(home), sys.prefix, str(Path(__file__).parents[2])):
        assert path.encode() not in answer.body
    assert answer.headers["x-request-id"].startswith("req_")
    if answer.status >= 400:
        assert answer.error["type"] == "invalid_request_error"
    elif is_json(sent, answer):
        assert isinstance(answer.json(), dict)


def first_objects(client: Client, home: Path, source: RandomRequests) -> None:
    """Add files and models that requests can name."""
    for purpose in (b"fine-tune", b"batch"):
        body = form(("purpose", None, purpose), ("file", "a.jsonl", b'{"a": 1}\n'))
        kind = {"content-type": "multipart/form-data; boundary=b0undary"}
        source.see(client.send(Sent("POST", "/v1/files", [body], kind)).json())
    add_models(Store(home), 20)
    source.see(client.get("/v1/models").json())


def in_short(sent: Sent) -> Sent:
    return Sent(sent.method, sent.target[:500], [chunk[:2000] for chunk in sent.chunks], sent.headers, sent.cut)


@pytest.mark.slow
def test_random_requests(client: Client, home: Path) -> None:
    source = RandomRequests(random.Random(SEED))
    db = sqlite3.connect(home / "engine.db")
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    first_objects(client, home, source)
    statuses: Counter[int] = Counter()
    for number in range(REQUESTS):
        sent = source.request()
        before = left(db, home, tables)
        answer = client.send(sent)
        try:
            check(sent, answer, home)
            if answer.status >= 400 or sent.method == "GET":
                assert left(db, home, tables) == before
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"request {number} of seed {SEED}: {in_short(sent)} → {answer}") from error
        if answer.status == 200 and is_json(sent, answer):
            source.see(json.loads(answer.body))
        statuses[answer.status] += 1
    db.close()
    print(f"{REQUESTS:,} requests: " + ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items())))
    assert statuses[200] > REQUESTS / 10
    assert {400, 401, 404, 405, 413, 421} <= set(statuses)


def test_random_requests_at_the_same_time(client: Client, home: Path) -> None:
    """Some of them end what others work on: an upload, a file or a model."""
    source = RandomRequests(random.Random(SEED + 1))
    first_objects(client, home, source)
    for _ in range(REQUESTS // 100):
        sent = [source.request() for _ in range(25)]
        for one, answer in zip(sent, client.send_together(sent), strict=True):
            try:
                check(one, answer, home)
            except (AssertionError, ValueError) as error:
                raise AssertionError(f"{in_short(one)} → {answer}") from error
            if answer.status == 200 and is_json(one, answer):
                source.see(json.loads(answer.body))
