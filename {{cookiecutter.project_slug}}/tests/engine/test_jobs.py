"""Test jobs: each is a process; jobs survive kills, wait for each other, stop, and give the same bytes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from conftest import PATIENCE, adapter_bytes, start_job, wait
from safetensors.torch import load

from finetune.engine import worker_launcher
from finetune.engine.embedded import embedded
from finetune.engine.store import Store
from finetune.engine.training import hyperparameters

pytestmark = pytest.mark.usefixtures("forked_workers")


def pids_of(home: Path, kind: str) -> list[int]:
    """Return the process IDs of this home's workers, launchers or trainers, of a rank of the trainers, or of all."""
    if kind == "all":
        return [pid for one in ("worker", "launcher", "trainer") for pid in pids_of(home, one)]
    if kind == "worker":
        pattern = f"finetune.engine.worker {home}"
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout.split()
    else:
        notes = home.glob("jobs/*/attempt-*/processes/*")
        kept = [path for path in notes if (path.name == "launcher") == (kind == "launcher")]
        found = [str(json.loads(path.read_bytes())["pid"]) for path in kept]
    alive = [int(pid) for pid in found if Path("/proc", pid).exists()]
    return sorted(alive)[int(kind[-1]) :][:1] if kind.startswith("rank") else alive


def kill(home: Path, kind: str = "all") -> None:
    for pid in pids_of(home, kind):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def steps_of(client: openai.OpenAI, job_id: str) -> list[int]:
    """Return the steps of the job's events, in their order."""
    events = list(client.fine_tuning.jobs.list_events(job_id, limit=1000))
    return [e.data["step"] for e in reversed(events) if e.type == "metrics"]  # type: ignore[index]


def published(client: openai.OpenAI, job_id: str) -> list[int]:
    """Return the steps of the job's checkpoints, newest first."""
    return [c.step_number for c in client.fine_tuning.jobs.checkpoints.list(job_id).data]


def wait_for_event(client: openai.OpenAI, job_id: str, message: str) -> None:
    """Wait until the job has an event whose message begins with `message`."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if any(e.message.startswith(message) for e in client.fine_tuning.jobs.list_events(job_id, limit=1000).data):
            return
        time.sleep(0.05)
    raise AssertionError(f"{job_id} has no event {message!r}")


@pytest.fixture(scope="module")
def lenient(client: openai.OpenAI) -> Iterator[openai.OpenAI]:
    """Return a client without strict types: the status `paused` is in OpenAI's API, but not in the client's types."""
    with openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def first(client: openai.OpenAI) -> Any:
    """Return a job that ran without interruption."""
    job = wait(client, start_job(client, epochs=3, examples=60).id)
    assert job.status == "succeeded", job.error
    return job


@pytest.fixture(scope="module")
def adapter(client: openai.OpenAI, first: Any) -> list[bytes]:
    """Return the adapter of the first job."""
    return adapter_bytes(client, first.id)


@pytest.mark.parametrize(
    ("moment", "kind"),
    [
        ("Checkpoint created", "trainer"),
        *(
            pytest.param(moment, kind, marks=pytest.mark.slow)
            for moment, kind in (
                ("Validating", "all"),
                ("Fine-tuning job started", "worker"),
                ("Step 15/", "launcher"),
            )
        ),
        *(
            pytest.param(moment, kind, marks=pytest.mark.further)
            for moment, kind in (
                ("Fine-tuning job started", "trainer"),
                ("Step 5/", "all"),
                ("Checkpoint created", "worker"),
                ("Step 25/", "all"),
            )
        ),
    ],
)
def test_a_killed_process_is_resumed_to_the_same_bytes(
    client: openai.OpenAI, home: Path, adapter: list[bytes], monkeypatch: pytest.MonkeyPatch, moment: str, kind: str
) -> None:
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)
    job = start_job(client, epochs=3, examples=60)
    wait_for_event(client, job.id, moment)
    kill(home, kind)
    ended = wait(client, job.id)
    assert ended.status == "succeeded", ended.error
    assert adapter_bytes(client, job.id) == adapter
    steps = steps_of(client, job.id)
    assert steps == list(range(1, len(steps) + 1))


@contextmanager
def pausing(home: Path, step: int) -> Iterator[None]:
    """Pause each job when it reports this step. Its trainer has trained some more by then."""
    db = sqlite3.connect(home / "engine.db")
    with closing(db):
        db.execute(
            f"CREATE TRIGGER pausing AFTER INSERT ON events WHEN NEW.step = {step} AND NEW.type = 'metrics'"
            " BEGIN UPDATE jobs SET status = 'paused' WHERE id = NEW.job; END"
        )
        try:
            yield
        finally:
            db.execute("DROP TRIGGER pausing")


def wait_until_idle(home: Path) -> None:
    """Wait until no worker runs and no trainer."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not pids_of(home, "all"):
            return
        time.sleep(0.1)
    raise AssertionError("a worker is still running")


@pytest.mark.slow
@pytest.mark.parametrize("step", [17, 30], ids=["within an epoch", "last step"])
def test_a_job_paused_at_a_step_gives_the_same_bytes(
    client: openai.OpenAI, lenient: openai.OpenAI, home: Path, adapter: list[bytes], step: int
) -> None:
    with pausing(home, step):
        job = start_job(client, epochs=3, examples=60)
        wait_for_event(client, job.id, f"Step {step}/")
        wait_until_idle(home)
    paused = lenient.fine_tuning.jobs.retrieve(job.id)
    assert (str(paused.status), paused.fine_tuned_model, paused.result_files) == ("paused", None, [])
    trained = steps_of(client, job.id)
    assert step <= len(trained)
    assert trained == list(range(1, len(trained) + 1))
    # A pause publishes no checkpoint.
    assert published(client, job.id) == list(range(len(trained) // 10 * 10, 0, -10))
    assert client.fine_tuning.jobs.resume(job.id).status in ("queued", "running")
    ended = wait(client, job.id)
    assert ended.status == "succeeded", ended.error
    if len(trained) < 30:
        wait_for_event(client, job.id, f"Fine-tuning job resumed from step {len(trained)} on cpu in ")
    assert steps_of(client, job.id) == list(range(1, 31))
    assert published(client, job.id) == [30, 20, 10]
    assert adapter_bytes(client, job.id) == adapter


@pytest.mark.slow
def test_a_paused_job_lets_the_next_one_train(
    client: openai.OpenAI, lenient: openai.OpenAI, home: Path, adapter: list[bytes]
) -> None:
    job = start_job(client, epochs=3, examples=60)
    wait_for_event(client, job.id, "Files validated")
    assert str(lenient.fine_tuning.jobs.pause(job.id).status) == "paused"
    assert wait(lenient, start_job(client).id).status == "succeeded"
    assert str(lenient.fine_tuning.jobs.retrieve(job.id).status) == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status in ("queued", "running")
    wait_for_event(client, job.id, "Step 5/")
    lenient.fine_tuning.jobs.pause(job.id)
    client.fine_tuning.jobs.resume(job.id)  # at once, whether or not its worker has seen the pause
    wait_for_event(client, job.id, "Step 12/")
    assert client.fine_tuning.jobs.retrieve(job.id).status in ("running", "succeeded")
    assert wait(client, job.id).status == "succeeded"
    assert steps_of(client, job.id) == list(range(1, 31))
    assert adapter_bytes(client, job.id) == adapter


def test_a_paused_job_can_be_cancelled_but_not_paused_again(
    client: openai.OpenAI, lenient: openai.OpenAI, home: Path
) -> None:
    job = start_job(client, epochs=50, examples=60)
    wait_for_event(client, job.id, "Step 2/")
    lenient.fine_tuning.jobs.pause(job.id)
    with pytest.raises(openai.BadRequestError, match="neither queued nor running"):
        lenient.fine_tuning.jobs.pause(job.id)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    for call in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume, client.fine_tuning.jobs.cancel):
        with pytest.raises(openai.BadRequestError):
            call(job.id)
    worker_launcher.start_worker(Store(home))  # as the next job does
    wait_until_idle(home)
    assert not list((home / "jobs").iterdir())


@pytest.mark.slow
def test_a_job_continues_from_a_fine_tuned_model(
    client: openai.OpenAI, home: Path, first: Any, adapter: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)
    parent = first.fine_tuned_model
    still = {"n_epochs": 1, "learning_rate_multiplier": 1e-9}
    idle = start_job(client, model=parent, method={"type": "supervised", "supervised": {"hyperparameters": still}})
    child, other = (start_job(client, epochs=3, examples=60, model=parent, suffix="more") for _ in range(2))
    ended = wait(client, idle.id)
    assert ended.status == "succeeded", ended.error
    torch.testing.assert_close(load(adapter_bytes(client, idle.id)[1]), load(adapter[1]), rtol=0, atol=1e-6)

    ended = wait(client, child.id)
    assert ended.status == "succeeded", ended.error
    assert ended.model == parent
    assert ended.fine_tuned_model.startswith("ft:tiny:local:more:")
    assert json.loads(adapter_bytes(client, child.id)[0])["base_model_name_or_path"] == "tiny"
    assert adapter_bytes(client, child.id)[1] != adapter[1]
    question: Any = [{"role": "user", "content": "1: paint it blue"}]
    assert client.chat.completions.create(model=ended.fine_tuned_model, messages=question, max_tokens=3).choices
    # The other job is killed twice, and its parent is deleted after its first checkpoint. It gives the same bytes.
    for moment in ("Step 4/", "Checkpoint created"):
        wait_for_event(client, other.id, moment)
        kill(home)
    assert client.models.delete(parent).deleted
    ended = wait(client, other.id)
    assert ended.status == "succeeded", ended.error
    assert adapter_bytes(client, other.id) == adapter_bytes(client, child.id)


def test_a_job_whose_model_is_deleted_while_it_waits_fails(client: openai.OpenAI, first: Any) -> None:
    parent = client.fine_tuning.jobs.checkpoints.list(first.id).data[-1].fine_tuned_model_checkpoint
    long = start_job(client, epochs=50, examples=60)
    waiting = start_job(client, model=parent)
    wait_for_event(client, waiting.id, "Files validated")
    client.models.delete(parent)
    client.fine_tuning.jobs.cancel(long.id)
    ended = wait(client, waiting.id)
    assert ended.status == "failed"
    assert (ended.error.code, ended.error.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as caught:
        start_job(client, model=parent)
    assert caught.value.code == "model_not_found"


@pytest.mark.slow
def test_a_large_batch_is_accumulated_from_equal_parts_and_paused_between_batches(
    client: openai.OpenAI, home: Path
) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 24}}}
    uninterrupted = wait(client, start_job(client, examples=72, method=method).id)
    assert uninterrupted.status == "succeeded", uninterrupted.error
    assert published(client, uninterrupted.id) == [9, 6, 3]
    with pausing(home, 5):
        job = start_job(client, examples=72, method=method)
        wait_for_event(client, job.id, "Step 5/9")
        wait_until_idle(home)
    client.fine_tuning.jobs.resume(job.id)
    assert wait(client, job.id).status == "succeeded"
    assert adapter_bytes(client, job.id) == adapter_bytes(client, uninterrupted.id)


@pytest.mark.slow
def test_a_launcher_can_start_the_worker(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = f"{sys.executable} -m accelerate.commands.launch --cpu --num_processes 1 --num_machines 1"
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{launcher} --mixed_precision no --dynamo_backend no")
    job = wait(client, start_job(client).id)
    assert job.status == "succeeded", job.error


@pytest.mark.slow
def test_another_seed_gives_other_bytes(client: openai.OpenAI, adapter: list[bytes]) -> None:
    job = wait(client, start_job(client, epochs=3, examples=60, seed=8).id)
    assert adapter_bytes(client, job.id)[1] != adapter[1]


@pytest.mark.slow
def test_one_job_trains_while_others_wait_and_a_cancelled_one_stops(client: openai.OpenAI, home: Path) -> None:
    long = start_job(client, epochs=50, examples=60)
    wait_for_event(client, long.id, "Step 2/")
    second, third = start_job(client), start_job(client)
    wait_for_event(client, third.id, "Files validated")
    assert [client.fine_tuning.jobs.retrieve(j.id).status for j in (long, second, third)] == [
        "running",
        "queued",
        "queued",
    ]
    assert client.fine_tuning.jobs.cancel(long.id).status == "cancelled"
    assert wait(client, third.id).status == "succeeded"
    assert wait(client, second.id).finished_at <= wait(client, third.id).finished_at
    assert client.fine_tuning.jobs.retrieve(long.id).fine_tuned_model is None
    wait_until_idle(home)


def test_a_job_outlives_its_server(client: openai.OpenAI, home: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import openai; from conftest import start_job; from finetune.engine.embedded import embedded\n"
        "with embedded() as a: print(start_job(openai.OpenAI(base_url=a.base_url, api_key=a.key)).id)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert wait(client, done.stdout.strip()).status == "succeeded"


@pytest.mark.slow
def test_two_servers_share_one_home(client: openai.OpenAI) -> None:
    job = start_job(client)
    with embedded() as address, openai.OpenAI(base_url=address.base_url, api_key=address.key) as other:
        assert wait(other, job.id).status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"


def test_the_database_is_in_wal_mode(client: openai.OpenAI, home: Path) -> None:
    db = sqlite3.connect(home / "engine.db")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


@pytest.mark.parametrize(
    ("examples", "epochs", "batch"), [(10, 10, 1), (24, 4, 2), (30, 3, 3), (100, 3, 8), (8334, 2, 8), (30_000, 1, 8)]
)
def test_auto_follows_its_rule(examples: int, epochs: int, batch: int) -> None:
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    found = hyperparameters.resolve(auto, examples)
    assert (found["n_epochs"], found["batch_size"], found["learning_rate"]) == (epochs, batch, "auto")
    assert hyperparameters.resolve(found, 7) == found
    assert hyperparameters.resolve({**auto, "n_epochs": 7}, examples)["n_epochs"] == 7
