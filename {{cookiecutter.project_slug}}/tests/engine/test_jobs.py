"""Jobs live in processes of their own: they survive kills, queue, cancel, and give the same bytes."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
from conftest import adapter_bytes, start_job, wait

from finetune.engine import jobs
from finetune.engine.embedded import embedded


def worker_pids(home: Path) -> list[int]:
    """The worker processes of this home."""
    found = subprocess.run(
        ["pgrep", "-f", f"finetune.engine.worker {home}"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def reached(client: openai.OpenAI, job_id: str, message: str) -> None:
    """Wait until an event of the job begins so."""
    for _ in range(600):
        if any(e.message.startswith(message) for e in client.fine_tuning.jobs.list_events(job_id, limit=1000).data):
            return
        time.sleep(0.05)
    raise AssertionError(f"{job_id} never came to {message!r}")


@pytest.fixture(scope="module")
def whole(client: openai.OpenAI) -> list[bytes]:
    """The adapter of a job that nothing disturbed."""
    job = wait(client, start_job(client, epochs=3, examples=60).id)
    assert job.status == "succeeded", job.error
    return adapter_bytes(client, job.id)


@pytest.mark.parametrize(
    "moment", ["Validating", "Fine-tuning job started", "Step 5/", "Checkpoint created", "Step 25/"]
)
def test_a_killed_worker_is_resumed_to_the_same_bytes(
    client: openai.OpenAI, home: Path, whole: list[bytes], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(jobs, "GRACE", 0.5)
    job = start_job(client, epochs=3, examples=60)
    reached(client, job.id, moment)
    for pid in worker_pids(home):
        os.kill(pid, signal.SIGKILL)
    ended = wait(client, job.id)
    assert ended.status == "succeeded", ended.error
    assert adapter_bytes(client, job.id) == whole
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=1000))
    steps = [e.data["step"] for e in reversed(events) if e.type == "metrics"]  # type: ignore[index]
    assert steps == list(range(1, len(steps) + 1))


def test_a_large_batch_is_accumulated_from_equal_parts(client: openai.OpenAI) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 24}}}
    job = wait(client, start_job(client, method=method).id)
    assert job.status == "succeeded", job.error
    steps = [c.step_number for c in client.fine_tuning.jobs.checkpoints.list(job.id).data]
    assert steps == [2, 1]


def test_a_launcher_may_start_the_worker(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = f"{sys.executable} -m accelerate.commands.launch --cpu --num_processes 1 --num_machines 1"
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{launcher} --mixed_precision no --dynamo_backend no")
    job = wait(client, start_job(client).id)
    assert job.status == "succeeded", job.error


def test_another_seed_gives_other_bytes(client: openai.OpenAI, whole: list[bytes]) -> None:
    job = wait(client, start_job(client, epochs=3, examples=60, seed=8).id)
    assert adapter_bytes(client, job.id)[1] != whole[1]


def test_one_trains_while_others_wait_and_a_cancelled_one_stops(client: openai.OpenAI, home: Path) -> None:
    long = start_job(client, epochs=50, examples=60)
    reached(client, long.id, "Step 2/")
    second, third = start_job(client), start_job(client)
    reached(client, third.id, "Files validated")
    assert [client.fine_tuning.jobs.retrieve(j.id).status for j in (long, second, third)] == [
        "running",
        "queued",
        "queued",
    ]
    assert client.fine_tuning.jobs.cancel(long.id).status == "cancelled"
    assert wait(client, third.id).status == "succeeded"
    assert wait(client, second.id).finished_at <= wait(client, third.id).finished_at
    assert client.fine_tuning.jobs.retrieve(long.id).fine_tuned_model is None
    for _ in range(100):
        if not worker_pids(home):
            return
        time.sleep(0.1)
    raise AssertionError("a worker stays behind")


def test_a_job_outlives_its_server(client: openai.OpenAI, home: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import openai; from conftest import start_job; from finetune.engine.embedded import embedded\n"
        "with embedded() as a: print(start_job(openai.OpenAI(base_url=a.base_url, api_key=a.key)).id)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert wait(client, done.stdout.strip()).status == "succeeded"


def test_two_servers_share_one_home(client: openai.OpenAI) -> None:
    job = start_job(client)
    with embedded() as address, openai.OpenAI(base_url=address.base_url, api_key=address.key) as other:
        assert wait(other, job.id).status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"


def test_records_are_in_wal_mode(client: openai.OpenAI, home: Path) -> None:
    db = sqlite3.connect(home / "engine.db")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


@pytest.mark.parametrize(
    ("examples", "epochs", "batch"), [(10, 10, 1), (24, 4, 2), (30, 3, 3), (100, 3, 8), (8334, 2, 8), (30_000, 1, 8)]
)
def test_auto_follows_its_written_rule(examples: int, epochs: int, batch: int) -> None:
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    assert jobs.resolve(auto, examples) == {"n_epochs": epochs, "batch_size": batch, "learning_rate_multiplier": 1.0}
    assert jobs.resolve({**auto, "n_epochs": 7}, examples)["n_epochs"] == 7
