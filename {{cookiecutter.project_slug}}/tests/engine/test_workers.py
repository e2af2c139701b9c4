"""Test workers: as many jobs at once as there are devices, and none waits for the files of another."""

import time
from pathlib import Path

import openai
import pytest
from conftest import start_job, training_lines, wait
from test_jobs import pids_of, steps_of, wait_for_event, wait_until_idle

from finetune.engine import worker_launcher

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.mark.slow
def test_two_jobs_train_at_once(client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ENGINE_JOBS", "2")
    long, second, third = (start_job(client, epochs=50, examples=60) for _ in range(3))
    for job in (long, second):
        wait_for_event(client, job.id, "Step 2/")
    assert [client.fine_tuning.jobs.retrieve(one.id).status for one in (long, second)] == ["running", "running"]
    assert client.fine_tuning.jobs.retrieve(third.id).status in ("validating_files", "queued")
    client.fine_tuning.jobs.cancel(second.id)
    wait_for_event(client, third.id, "Step 2/")
    assert client.fine_tuning.jobs.retrieve(long.id).status == "running"
    for one in (long, third):
        client.fine_tuning.jobs.cancel(one.id)


@pytest.mark.parametrize(
    ("visible", "jobs", "launcher", "devices"),
    [
        ("0,1,2,3", None, "", ["0", "1", "2", "3"]),
        ("0,1,2,3", "2", "", ["0,2", "1,3"]),
        ("0,1,2,3", None, "torchrun --nproc_per_node 2", ["0,2", "1,3"]),
        ("0,1", None, "torchrun --nproc_per_node 2", [None]),
        ("5", "2", "", ["5", "5"]),
        ("", None, "", [None]),
        ("", "3", "", [None, None, None]),
    ],
)
def test_each_job_has_its_own_devices(
    monkeypatch: pytest.MonkeyPatch, visible: str, jobs: str | None, launcher: str, devices: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", launcher)
    if jobs:
        monkeypatch.setenv("FINETUNE_ENGINE_JOBS", jobs)
    slots = range(worker_launcher.jobs_at_once())
    assert [worker_launcher.devices_of(slot).get("CUDA_VISIBLE_DEVICES") for slot in slots] == devices


@pytest.mark.slow
def test_a_small_job_does_not_wait_for_the_files_of_a_large_one(client: openai.OpenAI, home: Path) -> None:
    """And a job that is cancelled while its files are checked or encoded leaves its place soon."""
    rows = training_lines(24) * 8000
    file = client.files.create(file=("train.jsonl", rows), purpose="fine-tune")
    large = start_job(client, training_file=file.id, validation_file=None)
    wait_for_event(client, large.id, "Validating")
    assert wait(client, start_job(client, epochs=1).id).status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(large.id).status == "validating_files"
    client.fine_tuning.jobs.cancel(large.id)
    wait_until_idle(home)


def test_a_job_that_is_cancelled_while_its_files_are_encoded_stops(client: openai.OpenAI, home: Path) -> None:
    file = client.files.create(file=("train.jsonl", training_lines(24) * 500), purpose="fine-tune")
    job = start_job(client, training_file=file.id, validation_file=None)
    wait_for_event(client, job.id, "Files validated")
    while not pids_of(home, "trainer"):
        time.sleep(0.01)
    client.fine_tuning.jobs.cancel(job.id)
    began = time.monotonic()
    wait_until_idle(home)
    assert time.monotonic() - began < 5
    assert steps_of(client, job.id) == []
