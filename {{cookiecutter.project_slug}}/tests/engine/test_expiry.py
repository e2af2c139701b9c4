"""Test files that expire: until then they are there, and afterwards they are gone from every answer and the disk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi import FORM, Client, Sent, add_file, add_job, form, idle_engine

from finetune.engine.batch_queue import results_path
from finetune.engine.batch_results import result_file
from finetune.engine.store import Store

HOUR = {"anchor": "created_at", "seconds": 3600}
FIELDS: dict[str, Any] = {"expires_after__anchor": "created_at", "expires_after__seconds": "3600"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with idle_engine(tmp_path, monkeypatch) as found:
        yield found


def let_expire(home: Path) -> None:
    Store(home).execute("UPDATE files SET expires_at = 1 WHERE expires_at IS NOT NULL")


def listed(client: Client) -> list[str]:
    return [one["id"] for one in client.get("/v1/files").json()["data"]]


def test_a_file_says_when_it_expires_and_is_then_gone(client: Client, tmp_path: Path) -> None:
    lasting, file = add_file(client), add_file(client, **FIELDS)
    assert file["expires_at"] == file["created_at"] + 3600
    assert "expires_at" not in lasting
    assert "status_details" not in lasting
    assert listed(client) == [file["id"], lasting["id"]]
    assert client.get(f"/v1/files/{file['id']}").json() == file
    let_expire(tmp_path)
    for path in (f"/v1/files/{file['id']}", f"/v1/files/{file['id']}/content"):
        assert client.get(path).status == 404
    assert client.send(Sent("DELETE", f"/v1/files/{file['id']}")).status == 404
    assert listed(client) == [lasting["id"]]
    assert [path.name for path in (tmp_path / "files").iterdir()] == [lasting["id"]]
    assert client.get(f"/v1/files?after={file['id']}").json()["data"] == [lasting]


def test_the_file_of_an_upload_expires(client: Client) -> None:
    body = {"filename": "a", "mime_type": "text/plain", "purpose": "user_data", "bytes": 1, "expires_after": HOUR}
    upload = client.post("/v1/uploads", body).json()
    assert upload["expires_at"] == upload["created_at"] + 3600  # of the upload itself
    part = client.send(Sent("POST", f"/v1/uploads/{upload['id']}/parts", (form(("data", "a", b"a")),), FORM)).json()
    file = client.post(f"/v1/uploads/{upload['id']}/complete", {"part_ids": [part["id"]]}).json()["file"]
    assert file["expires_at"] == file["created_at"] + 3600


def test_an_expired_file_is_named_as_such_by_jobs_and_batches(client: Client, tmp_path: Path) -> None:
    training, lasting = add_file(client, **FIELDS)["id"], add_file(client)["id"]
    let_expire(tmp_path)
    for body in ({"training_file": training}, {"training_file": lasting, "validation_file": training}):
        answer = client.post("/v1/fine_tuning/jobs", {"model": "tiny", **body})
        assert answer.status == 400
        assert "has expired: upload the file again" in answer.error["message"]
    batch = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": training}
    answer = client.post("/v1/batches", batch)
    assert (answer.status, answer.error["param"]) == (400, "input_file_id")
    assert "has expired" in answer.error["message"]


@pytest.mark.parametrize("status", ["running", "paused", "succeeded"])
def test_an_unfinished_job_keeps_the_files_that_it_reads(client: Client, tmp_path: Path, status: str) -> None:
    training, validation = (add_file(client, **FIELDS)["id"] for _ in range(2))
    finished = {"finished_at": 1 if status == "succeeded" else None}
    add_job(tmp_path, 1, status, training_file=training, validation_file=validation, **finished)
    let_expire(tmp_path)
    assert listed(client) == []
    kept = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert kept == ([] if status == "succeeded" else sorted([training, validation]))
    store = Store(tmp_path)
    store.execute("UPDATE jobs SET finished_at = 1")
    assert listed(client) == []
    assert not list((tmp_path / "files").iterdir())


def test_the_results_of_a_batch_expire(client: Client, tmp_path: Path) -> None:
    body = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "output_expires_after": HOUR}
    batch = client.post("/v1/batches", {**body, "input_file_id": add_file(client, "batch")["id"]}).json()
    store = Store(tmp_path)
    line = {"id": "a", "custom_id": "a", "response": {"status_code": 200, "request_id": "a", "body": {}}, "error": None}
    results_path(store, batch["id"]).write_text(json.dumps(line) + "\n", encoding="utf-8")
    output = client.get(f"/v1/files/{result_file(store, batch['id'], 'output')}").json()
    assert output["expires_at"] == output["created_at"] + 3600


def test_a_home_of_an_earlier_version_gets_the_new_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    with store.transaction() as db:
        db.execute("DROP INDEX files_that_expire")
        for table, column in (("files", "expires_at"), ("jobs", "integrations"), ("batches", "endpoint")):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("INSERT INTO batches (id, created_at, status, input_file) VALUES ('batch_1', 1, 'completed', 'a')")
        db.execute("INSERT INTO files (id, created_at, filename, purpose, bytes) VALUES ('file-1', 1, 'a', 'batch', 1)")
    (tmp_path / "bases").rmdir()
    with idle_engine(tmp_path, monkeypatch) as client:
        assert listed(client) == ["file-1"]
        assert client.get("/v1/batches/batch_1").json()["endpoint"] == "/v1/chat/completions"


def test_an_upload_stays_within_what_it_announced(client: Client, tmp_path: Path) -> None:
    body = {"filename": "a", "mime_type": "text/plain", "purpose": "user_data", "bytes": 4}
    upload = client.post("/v1/uploads", body).json()["id"]

    def send(content: bytes) -> int:
        answer = client.send(Sent("POST", f"/v1/uploads/{upload}/parts", (form(("data", "a", content)),), FORM))
        if answer.status != 200:
            assert answer.error["param"] == "data"
        return answer.status

    assert send(b"abcde") == 400
    assert [send(b"abcd") for _ in range(4)] == [200, 200, 200, 400]  # a client may send a part again
    assert sum(path.stat().st_size for path in (tmp_path / "uploads" / upload).iterdir()) == 12
