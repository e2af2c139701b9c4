"""Test jobs that send their metrics to Weights & Biases, by that service's own library in its offline mode."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import adapter_bytes, start_job, wait

INSTALLED = importlib.util.find_spec("wandb") is not None
SETTINGS = {"project": "support", "tags": ["mine"], "name": "first try"}
needs_wandb = pytest.mark.skipif(not INSTALLED, reason="install it with: pip install -e '.[wandb]'")


def test_a_server_without_the_library_refuses_it(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.engine.api.job_routes.importlib.util.find_spec", lambda _: None)
    with pytest.raises(openai.BadRequestError, match="pip install wandb") as caught:
        start_job(client, integrations=[{"type": "wandb", "wandb": {"project": "p"}}])
    assert caught.value.param == "integrations"


def records_of(folder: Path) -> list[Any]:
    """Return what the library has written for one run, in LevelDB's log format after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    data, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole, at = whole + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):
            found.append(Record.FromString(whole))
            whole = b""
    return found


@needs_wandb
def test_the_metrics_of_each_step_are_in_the_run(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    plain = wait(client, start_job(client).id)
    job = start_job(client, integrations=[{"type": "wandb", "wandb": SETTINGS}])
    assert job.integrations[0].wandb.to_dict() == SETTINGS
    job = wait(client, job.id)
    assert job.status == "succeeded", job.error
    assert job.integrations[0].wandb.to_dict() == {**SETTINGS, "run_id": job.id}
    (folder,) = (home / "wandb").glob("offline-run-*")
    records = records_of(folder)
    run = next(record.run for record in records if record.HasField("run"))
    assert (run.run_id, run.project, run.display_name) == (job.id, "support", "first try")
    assert set(run.tags) == {"mine", "openai/finetune", "openai/tiny", f"openai/{job.id}"}
    assert not run.git.remote_url
    history = [record.history for record in records if record.HasField("history")]
    rows = [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in one.item} for one in history]
    events = client.fine_tuning.jobs.list_events(job.id, limit=1000).data
    data: list[Any] = [event.data for event in reversed(events) if event.type == "metrics"]
    assert [row["_step"] for row in rows] == [one["step"] for one in data]
    for row, one in zip(rows, data, strict=True):
        metrics = {key: value for key, value in one.items() if key != "step"}
        assert {key: row[key] for key in metrics} == metrics
    # The library draws random numbers; the training does not notice.
    assert adapter_bytes(client, job.id) == adapter_bytes(client, plain.id)


@needs_wandb
def test_a_run_that_cannot_be_made_does_not_stop_the_training(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "no such mode")
    job = wait(client, start_job(client, integrations=[{"type": "wandb", "wandb": SETTINGS}]).id)
    assert job.status == "succeeded", job.error
    warnings = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=1000) if e.level == "warn"]
    assert len(warnings) == 1
    assert "Weights & Biases" in warnings[0]
