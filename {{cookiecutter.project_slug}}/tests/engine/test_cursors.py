"""Test that a client can list and delete at once: a page continues after an entry that was deleted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi import Client, Sent, add_file, add_job, add_model, idle_engine

from finetune.engine.store import Store
from finetune.engine.trainer_events import delete_reports_after

CHECKPOINT = "/v1/fine_tuning/checkpoints/ft:tiny:local::0/permissions"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with idle_engine(tmp_path, monkeypatch) as found:
        add_job(tmp_path, 0)
        yield found


def delete_while_listing(client: Client, path: str, delete: str, query: str) -> list[str]:
    """Delete each entry of a list when its page has come, and return the IDs in the order of the pages."""
    found: list[str] = []
    while True:
        after = f"&after={found[-1]}" if found else ""
        answer = client.get(f"{path}?limit=2{query}{after}")
        assert answer.status == 200, answer.body
        page: list[Any] = answer.json()["data"]
        for one in page:
            name = one["fine_tuned_model_checkpoint"] if "fine_tuned_model_checkpoint" in one else one["id"]
            assert client.send(Sent("DELETE", f"{delete}/{name}")).status == 200
        found += [one["id"] for one in page]
        if not answer.json()["has_more"]:
            return found


@pytest.mark.parametrize(("query", "is_ascending"), [("", False), ("&order=asc", True), ("&purpose=fine-tune", False)])
def test_files(client: Client, query: str, is_ascending: bool) -> None:
    files = [add_file(client)["id"] for _ in range(7)]
    assert delete_while_listing(client, "/v1/files", "/v1/files", query) == (files if is_ascending else files[::-1])


def test_checkpoints(client: Client, tmp_path: Path) -> None:
    for number in range(5):
        add_model(tmp_path, number)
    path = "/v1/fine_tuning/jobs/ftjob-0/checkpoints"
    assert delete_while_listing(client, path, "/v1/models", "") == [f"ftckpt_{n}" for n in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_permissions(client: Client, tmp_path: Path, order: str) -> None:
    add_model(tmp_path, 0)
    made = client.post(CHECKPOINT, {"project_ids": list("abcde")}).json()["data"]
    ids = [one["id"] for one in made]
    expected = ids if order == "ascending" else ids[::-1]
    assert delete_while_listing(client, CHECKPOINT, CHECKPOINT, f"&order={order}") == expected


def test_events_that_a_resumed_job_reports_again(client: Client, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for step in range(6):
        store.add_event("ftjob-0", f"Step {step}", step=step)
    path = "/v1/fine_tuning/jobs/ftjob-0/events"
    last = client.get(f"{path}?limit=2").json()["last_id"]
    delete_reports_after(store, "ftjob-0", 3)
    messages = [one["message"] for one in client.get(f"{path}?after={last}").json()["data"]]
    assert messages == ["Step 3", "Step 2", "Step 1", "Step 0"]
    add_job(tmp_path, 1)
    assert client.get(f"/v1/fine_tuning/jobs/ftjob-1/events?after={last}").status == 400  # of another job


def test_a_new_file_that_gets_the_number_of_a_deleted_one_is_listed_after_it(client: Client) -> None:
    first, last = (add_file(client)["id"] for _ in range(2))
    assert client.send(Sent("DELETE", f"/v1/files/{last}")).status == 200
    new = add_file(client)["id"]
    assert [one["id"] for one in client.get(f"/v1/files?order=asc&after={last}").json()["data"]] == [new]
    assert [one["id"] for one in client.get(f"/v1/files?after={last}").json()["data"]] == [first]
