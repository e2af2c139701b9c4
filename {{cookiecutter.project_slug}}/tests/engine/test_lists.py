"""Test lists: their pages, their borders and their filters, as OpenAI documents them, and what a page costs."""

import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from asgi import KEY, Client, empty_home

from finetune.engine.api.app import make_app
from finetune.engine.database_check import check_database
from finetune.engine.store import Store

JOBS, FILES, BATCHES = "/v1/fine_tuning/jobs", "/v1/files", "/v1/batches"
EVENTS, CHECKPOINTS = f"{JOBS}/ftjob-0/events", f"{JOBS}/ftjob-0/checkpoints"
ODD = {"팀": "값 \"'%", 'a"b': "[]", "a]": "x[", "e😀": "", "null": "null", "a b": "c&d=e"}


def add_rows(home: Path, count: int) -> None:
    """Add jobs, files and batches, and events and checkpoints of the first job and of another one."""
    with sqlite3.connect(home / "engine.db") as db:
        for n in range(count):
            metadata = None if n % 3 == 0 else {"team": "ab"[n % 2], "number": str(n)}
            db.execute(
                "INSERT INTO jobs (id, created_at, status, model, seed, training_file, asked, metadata)"
                " VALUES (?, ?, 'succeeded', 'tiny', 1, 'file-0', '{}', ?)",
                (f"ftjob-{n}", n, json.dumps(metadata) if metadata else None),
            )
            purpose = "batch" if n % 2 else "fine-tune"
            db.execute("INSERT INTO files VALUES (NULL, ?, ?, 'a', ?, 1, NULL)", (f"file-{n}", n, purpose))
            db.execute(
                "INSERT INTO batches (id, created_at, status, input_file) VALUES (?, ?, 'completed', 'file-1')",
                (f"batch-{n}", n),
            )
            for job in ("ftjob-0", "ftjob-1"):
                event = (f"event-{job}-{n}", job)
                db.execute("INSERT INTO events VALUES (NULL, ?, ?, 1, 'info', 'message', 'a', '{}', NULL)", event)
                checkpoint = (f"checkpoint-{job}-{n}", job, n)
                db.execute("INSERT INTO checkpoints VALUES (NULL, ?, ?, 1, ?, 'm', '{}', '[]')", checkpoint)
    db.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    empty_home(tmp_path)
    monkeypatch.setattr("finetune.engine.batch_runner.BatchRunner._work_on_all", lambda _: None)
    return tmp_path


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    app = make_app(Store(home), KEY)
    add_rows(home, 25)
    found = Client(app)
    yield found
    found.close()
    app.state.engine.close()


def ids(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    found = [one["id"] for one in answer.json()["data"]]
    assert answer.json()["first_id"] == (found[0] if found else None)
    assert answer.json()["last_id"] == (found[-1] if found else None)
    return found


PREFIXES = {
    JOBS: "ftjob-",
    FILES: "file-",
    BATCHES: "batch-",
    EVENTS: "event-ftjob-0-",
    CHECKPOINTS: "checkpoint-ftjob-0-",
}


@pytest.mark.parametrize(("path", "default"), [(JOBS, 20), (FILES, 25), (BATCHES, 20), (EVENTS, 20), (CHECKPOINTS, 10)])
def test_the_pages_of_a_list_hold_each_entry_once(client: Client, path: str, default: int) -> None:
    newest_first = [f"{PREFIXES[path]}{n}" for n in reversed(range(25))]
    assert ids(client.get(path)) == newest_first[:default]
    assert client.get(path).json()["has_more"] is (default < 25)
    for limit in (1, 5, 24, 25, 26, 100):
        found: list[str] = []
        for pages in count(1):
            after = f"&after={found[-1]}" if found else ""
            answer = client.get(f"{path}?limit={limit}{after}")
            found += ids(answer)
            assert answer.json()["has_more"] is (len(found) < 25)
            if not answer.json()["has_more"]:
                assert pages == -(-25 // limit)
                break
        assert found == newest_first
    assert ids(client.get(f"{path}?after={newest_first[-1]}")) == []


@pytest.mark.parametrize("path", PREFIXES)
@pytest.mark.parametrize("after", ["none", "", "event-ftjob-1-3", "checkpoint-ftjob-1-3", "%00", "'--"])
def test_after_must_name_an_entry_of_the_list(client: Client, path: str, after: str) -> None:
    answer = client.get(f"{path}?after={after}")
    assert (answer.status, answer.error["param"]) == (400, "after")


@pytest.mark.parametrize(
    ("path", "highest"), [(JOBS, 100), (FILES, 10_000), (BATCHES, 100), (EVENTS, 1000), (CHECKPOINTS, 1000)]
)
def test_a_limit_has_a_range(client: Client, path: str, highest: int) -> None:
    for limit, status in ((0, 400), (-1, 400), (1, 200), (highest, 200), (highest + 1, 400)):
        assert client.get(f"{path}?limit={limit}").status == status


def test_files_are_ordered_and_chosen_by_purpose(client: Client) -> None:
    assert ids(client.get(f"{FILES}?order=asc&limit=3")) == ["file-0", "file-1", "file-2"]
    assert ids(client.get(f"{FILES}?order=asc&limit=3&after=file-2")) == ["file-3", "file-4", "file-5"]
    assert ids(client.get(f"{FILES}?order=desc&limit=2&after=file-2")) == ["file-1", "file-0"]
    assert ids(client.get(f"{FILES}?purpose=batch&limit=2&after=file-7")) == ["file-5", "file-3"]
    assert ids(client.get(f"{FILES}?purpose=vision")) == []
    for wrong in ("up", "", "ASC"):
        answer = client.get(f"{FILES}?order={wrong}")
        assert (answer.status, answer.error["param"]) == (400, "order")


def test_jobs_are_chosen_by_metadata(client: Client, home: Path) -> None:
    with sqlite3.connect(home / "engine.db") as db:
        db.execute(
            "INSERT INTO jobs (id, created_at, status, model, seed, training_file, asked, metadata)"
            " VALUES ('ftjob-odd', 1, 'succeeded', 'tiny', 1, 'file-0', '{}', ?)",
            (json.dumps(ODD),),
        )
    db.close()
    assert ids(client.get(f"{JOBS}?metadata[team]=a&limit=3")) == ["ftjob-22", "ftjob-20", "ftjob-16"]
    assert ids(client.get(f"{JOBS}?metadata%5Bteam%5D=a&limit=2&after=ftjob-20")) == ["ftjob-16", "ftjob-14"]
    assert ids(client.get(f"{JOBS}?metadata[team]=b&metadata[number]=5")) == ["ftjob-5"]
    assert ids(client.get(f"{JOBS}?metadata[team]=a&metadata[number]=5")) == []
    assert ids(client.get(f"{JOBS}?metadata[team]=a&metadata[team]=b")) == []
    assert ids(client.get(f"{JOBS}?metadata[team]=")) == []
    assert ids(client.get(f"{JOBS}?metadata=null")) == [f"ftjob-{n}" for n in reversed(range(0, 25, 3))]
    assert client.get(f"{JOBS}?metadata[team]=a&after=ftjob-5").error["param"] == "after"
    for key, value in ODD.items():
        assert ids(client.get(f"{JOBS}?{quote(f'metadata[{key}]')}={quote(value)}")) == ["ftjob-odd"]


@pytest.mark.parametrize(
    "query", ["metadata=a", "metadata=", "metadata=null&metadata[team]=a", "metadata=null&metadata=a"]
)
def test_the_two_forms_of_metadata_are_not_mixed(client: Client, query: str) -> None:
    answer = client.get(f"{JOBS}?{query}")
    assert (answer.status, answer.error["param"]) == (400, "metadata")


def test_a_database_with_jobs_is_whole(home: Path) -> None:
    """SQLite 3.40 takes some whole tables for damaged ones."""
    Store(home)
    add_rows(home, 5)
    check_database(home)


def test_a_home_of_an_earlier_version_gets_the_metadata_of_its_jobs(home: Path) -> None:
    Store(home)
    with sqlite3.connect(home / "engine.db") as db:
        db.executescript("DROP TRIGGER copy_metadata; DROP TABLE job_metadata;")
    db.close()
    add_rows(home, 5)
    app = make_app(Store(home), KEY)
    client = Client(app)
    assert ids(client.get(f"{JOBS}?metadata[team]=a")) == ["ftjob-4", "ftjob-2"]
    client.close()
    app.state.engine.close()


QUERIES = [JOBS, f"{JOBS}?metadata[team]=a", f"{JOBS}?metadata=null", EVENTS, CHECKPOINTS, f"{FILES}?limit=20", BATCHES]


def test_a_page_reads_no_more_than_itself(client: Client, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite counts its steps: with 40 times as many rows, a page takes hardly more of them, and no more memory."""
    steps = 0

    def count_steps() -> int:
        nonlocal steps
        steps += 1
        return 0

    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*arguments, **options)
        db.set_progress_handler(count_steps, 10)
        return db

    def costs() -> dict[str, tuple[int, int]]:
        nonlocal steps
        found = {}
        for query in QUERIES:
            steps = 0
            tracemalloc.start()
            assert client.get(query).json()["has_more"] or query.endswith(("null", "=a"))
            found[query] = steps, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    monkeypatch.setattr(sqlite3, "connect", counted)
    costs()
    few = costs()
    with connect(home / "engine.db") as db:
        for table in ("events", "checkpoints", "batches", "files", "jobs"):
            db.execute(f"DELETE FROM {table}")
        db.execute("DELETE FROM job_metadata")
    db.close()
    add_rows(home, 1000)
    for query, (steps_then, memory_then) in costs().items():
        assert steps_then < few[query][0] * 3 + 100, query
        assert memory_then < few[query][1] * 3 + 200_000, query
