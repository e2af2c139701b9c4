"""Test launchers: several processes train one job together, and whatever dies, it ends with the same bytes."""

import csv
import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import adapter_bytes, start_job, training_lines, wait
from test_jobs import kill, pids_of, steps_of, wait_for_event

from finetune.engine import worker_launcher
from finetune.engine.launcher import asked_processes
from finetune.engine.training.job_folder import Job, read_result, write_job

pytestmark = pytest.mark.usefixtures("forked_workers")
TORCHRUN = f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node 2"
ACCELERATE = f"{sys.executable} -m accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a new worker soon after one died."""
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)


@pytest.fixture
def in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork two processes for each job."""
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{os.environ['FINETUNE_ENGINE_LAUNCHER']} --num_processes 2")


def trained(client: openai.OpenAI, **more: Any) -> Any:
    job = wait(client, start_job(client, **{"epochs": 3, "examples": 60, **more}).id)
    assert job.status == "succeeded", job.error
    return job


def trained_after_a_kill(client: openai.OpenAI, home: Path, moment: str, kind: str) -> Any:
    """Return the job of `trained`, of which a process is killed after an event that begins with `moment`."""
    job = start_job(client, epochs=3, examples=60)
    wait_for_event(client, job.id, moment)
    kill(home, kind)
    ended = wait(client, job.id)
    assert ended.status == "succeeded", ended.error
    return ended


def start_message(client: openai.OpenAI, job: Any) -> str:
    events = client.fine_tuning.jobs.list_events(job.id, limit=1000).data
    (message,) = [event.message for event in events if event.message.startswith("Fine-tuning job started")]
    return message


def curve(client: openai.OpenAI, job: Any) -> list[dict[str, float]]:
    table = csv.DictReader(io.StringIO(client.files.content(job.result_files[0]).text))
    return [{name: float(value or 0) for name, value in row.items()} for row in table]


@pytest.fixture(scope="module")
def alone(client: openai.OpenAI, forked_workers: None) -> Any:
    """Return a job of one process."""
    return trained(client)


@pytest.fixture(scope="module")
def together(client: openai.OpenAI, forked_workers: None) -> Any:
    """Return a job of two processes, started by torchrun."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_ENGINE_LAUNCHER", TORCHRUN)
        return trained(client)


@pytest.mark.slow
def test_two_processes_of_torchrun_train_as_one(client: openai.OpenAI, alone: Any, together: Any) -> None:
    """They train on the same examples in the same batches. The last batch of an epoch is smaller than the others."""
    assert re.search(r"on cpu in (bfloat16|float32) with 2 processes of \d+ thread", start_message(client, together))
    assert "with 1 process of " in start_message(client, alone)
    one, two = curve(client, alone), curve(client, together)
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for name in ("train_loss", "valid_loss"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], abs=2e-3)
    for name in ("elapsed_tokens", "elapsed_examples"):
        assert [row[name] for row in two] == [row[name] for row in one]
    assert (two[-1]["elapsed_tokens"], two[-1]["elapsed_examples"]) == (together.trained_tokens, 180)
    assert two[0]["train_loss"] == pytest.approx(one[0]["train_loss"], abs=1e-4)
    assert together.trained_tokens == alone.trained_tokens
    assert len(list(client.fine_tuning.jobs.checkpoints.list(together.id))) == 3


@pytest.mark.slow
def test_accelerate_gives_the_bytes_of_torchrun(
    client: openai.OpenAI, together: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", ACCELERATE)
    job = trained(client)
    assert "2 processes" in start_message(client, job)
    assert adapter_bytes(client, job.id) == adapter_bytes(client, together.id)


# What srun sets in each process that it starts.
SRUN = """
import os, subprocess, sys
count = int(sys.argv[2])
step = [{"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n), "SLURM_STEP_NUM_TASKS": str(count)} for n in range(count)]
started = [subprocess.Popen([sys.executable, *sys.argv[3:]], env={**os.environ, **one}) for one in step]
sys.exit(max(one.wait() for one in started))
"""


@pytest.mark.further
def test_processes_of_srun_find_each_other_in_the_folder(
    client: openai.OpenAI, together: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "srun"
    program.write_text(SRUN, encoding="utf-8")
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{sys.executable} {program} -n 2")
    assert adapter_bytes(client, trained(client).id) == adapter_bytes(client, together.id)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 24], ids=["smaller than the processes", "odd", "accumulated"])
def test_batches_that_cannot_be_divided_are_trained_alike(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": batch}}}
    one = trained(client, examples=25, method=method)
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{os.environ['FINETUNE_ENGINE_LAUNCHER']} --num_processes 2")
    two = trained(client, examples=25, method=method)
    for row, other in zip(curve(client, one), curve(client, two), strict=True):
        # Rounding may change the most probable token, so one example more or less is exact.
        exact = {"train_sequence_accuracy", "valid_sequence_accuracy"}
        assert {name: other[name] for name in other if name not in exact} == pytest.approx(
            {name: row[name] for name in row if name not in exact}, abs=5e-3
        )


@pytest.mark.parametrize(
    ("moment", "kind"),
    [
        pytest.param("Step 5/", "rank 0", marks=pytest.mark.slow),
        pytest.param("Checkpoint created", "rank 1", marks=pytest.mark.slow),
        *(
            pytest.param(moment, kind, marks=pytest.mark.further)
            for moment, kind in (
                ("Fine-tuning job started", "rank 1"),
                ("Step 15/", "launcher"),
                ("Step 25/", "worker"),
            )
        ),
    ],
)
def test_a_killed_process_of_two_is_resumed_to_the_same_bytes(
    client: openai.OpenAI, home: Path, together: Any, in_two: None, moment: str, kind: str
) -> None:
    job = trained_after_a_kill(client, home, moment, kind)
    assert adapter_bytes(client, job.id) == adapter_bytes(client, together.id)
    assert steps_of(client, job.id) == list(range(1, 31))
    assert curve(client, job) == curve(client, together)


@pytest.mark.further
def test_after_a_kill_of_torchrun_the_job_is_resumed_to_the_same_bytes(
    client: openai.OpenAI, home: Path, together: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", TORCHRUN)
    job = trained_after_a_kill(client, home, "Step 12/", "launcher")  # it does not end its processes then
    assert adapter_bytes(client, job.id) == adapter_bytes(client, together.id)


@pytest.mark.slow
def test_a_trainer_that_cannot_be_killed_writes_nothing_beside_its_successor(
    client: openai.OpenAI, home: Path, alone: Any
) -> None:
    """Its processes seem to be on another machine."""
    job = start_job(client, epochs=3, examples=60)
    wait_for_event(client, job.id, "Step 12/")
    left = pids_of(home, "trainer")
    for path in home.glob("jobs/*/attempt-*/processes/*"):
        path.write_text(path.read_text(encoding="utf-8").replace(socket.gethostname(), "elsewhere"), encoding="utf-8")
    kill(home, "worker")
    ended = wait(client, job.id)
    assert ended.status == "succeeded", ended.error
    assert adapter_bytes(client, job.id) == adapter_bytes(client, alone.id)
    assert steps_of(client, job.id) == list(range(1, 31))
    assert not [pid for pid in left if Path("/proc", str(pid)).exists()]


@pytest.mark.slow
def test_a_launcher_that_starts_fewer_processes_than_asked_ends_the_job(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = f"{sys.executable} -m accelerate.commands.launch --cpu --num_processes 2"
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", launcher)
    job = wait(client, start_job(client).id)
    assert job.status == "failed"
    assert "It started 1 process, but was asked for 2 (--num_processes 2)" in job.error.message
    assert "--multi_gpu in place of --cpu" in job.error.message


SHARDED = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_machines: 1
num_processes: 2
machine_rank: 0
main_process_port: 0
mixed_precision: 'no'
use_cpu: true
fsdp_config: {fsdp_version: 2, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP, fsdp_state_dict_type: FULL_STATE_DICT}
"""


@pytest.fixture
def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork two processes for each job, with the variable that accelerate sets for a configuration of FSDP."""
    launcher = f"env ACCELERATE_USE_FSDP=true {os.environ['FINETUNE_ENGINE_LAUNCHER']} --num_processes 2"
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", launcher)


@pytest.mark.slow
def test_sharding_the_base_changes_no_byte(client: openai.OpenAI, together: Any, sharded: None) -> None:
    job = trained(client)
    assert "2 processes of 1 thread, with a part of the base in each" in start_message(client, job)
    assert adapter_bytes(client, job.id) == adapter_bytes(client, together.id)
    assert curve(client, job) == curve(client, together)


@pytest.mark.further
def test_a_killed_process_with_a_part_of_the_base_is_resumed_to_the_same_bytes(
    client: openai.OpenAI, home: Path, together: Any, sharded: None
) -> None:
    job = trained_after_a_kill(client, home, "Step 15/", "rank 1")
    assert adapter_bytes(client, job.id) == adapter_bytes(client, together.id)


@pytest.mark.further
@pytest.mark.parametrize(
    "asked",
    [{"lora_layers": "all", "gradient_checkpointing": True, "batch_size": 3}, {"lora_dropout": 0.1, "batch_size": 24}],
    ids=["recomputed", "accumulated"],
)
def test_sharding_changes_no_byte_of_other_recipes(
    client: openai.OpenAI, in_two: None, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, **asked}}}
    jobs = [trained(client, examples=25, method=method)]
    monkeypatch.setenv(
        "FINETUNE_ENGINE_LAUNCHER", f"env ACCELERATE_USE_FSDP=true {os.environ['FINETUNE_ENGINE_LAUNCHER']}"
    )
    jobs.append(trained(client, examples=25, method=method))
    assert "part of the base" in start_message(client, jobs[1])
    one, two = (adapter_bytes(client, job.id) for job in jobs)
    assert one == two


@pytest.mark.further
def test_accelerate_shards_the_base_by_its_configuration(
    client: openai.OpenAI, together: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fsdp.yaml").write_text(SHARDED, encoding="utf-8")
    launcher = f"{sys.executable} -m accelerate.commands.launch --config_file {tmp_path / 'fsdp.yaml'}"
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", launcher)
    job = trained(client)
    assert "with a part of the base in each" in start_message(client, job)
    assert adapter_bytes(client, job.id) == adapter_bytes(client, together.id)


def test_a_launcher_that_asks_for_deepspeed_ends_the_job(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that accelerate sets for it."""
    launcher = f"env ACCELERATE_USE_DEEPSPEED=true {os.environ['FINETUNE_ENGINE_LAUNCHER']} --num_processes 2"
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", launcher)
    job = wait(client, start_job(client).id)
    assert (job.status, job.error.code) == ("failed", "launcher_error")
    assert "DeepSpeed is not supported" in job.error.message


CONFIG = "compute_environment: LOCAL_MACHINE\nnum_processes: 4\n"


@pytest.mark.parametrize(
    ("launcher", "asked"),
    [
        ("torchrun --nproc_per_node 2", 2),
        ("torchrun --nproc-per-node=2 --nnodes 3", 6),
        ("torchrun --nproc_per_node gpu", None),
        ("accelerate launch --num_processes 4 --cpu", 4),
        ("accelerate launch --num-processes=2 --config_file CONFIG", 2),
        ("accelerate launch --config_file CONFIG", 4),
        ("accelerate launch --config_file missing.yaml", None),
        ("srun -n 8 python", 8),
        ("srun --ntasks=8 python", 8),
        ("/usr/bin/mpirun -np 2 python", 2),
        ("nice -n 10 python", None),
        ("bash -c 'srun --nodes 2 --ntasks-per-node 1 torchrun --nnodes 2 --nproc_per_node 8 -m x {job}'", 16),
        ("ray job submit --address http://127.0.0.1:8265 -- torchrun --nproc_per_node 2", 2),
        ("python", None),
    ],
)
def test_the_number_of_processes_is_read_from_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, asked: int | None
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    found = asked_processes(shlex.split(launcher.replace("CONFIG", str(config))))
    assert (found.processes if found else None) == asked


@pytest.mark.slow
def test_the_trainer_is_a_program_between_two_folders(home: Path, tmp_path: Path) -> None:
    """It needs no server. Started again, it goes on from its newest checkpoint."""
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "training.jsonl").write_bytes(training_lines(24))
    job: Job = {
        "id": "mine",
        "base": "tiny",
        "base_folder": str(home / "bases" / "tiny"),
        "base_weights": None,
        "model": "tiny",
        "method": "supervised",
        "hyperparameters": {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 1.0},
        "seed": 1,
        "dtype": None,
        "threads": None,
        "cores": None,
        "processes": None,
        "asked_by": None,
        "integrations": [],
        "integrations_folder": str(tmp_path),
    }
    write_job(folder, job)
    command = [sys.executable, "-m", "finetune.engine.training", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for starts in ([0], [0, 6]):
        subprocess.run(command, env=environment, check=True, capture_output=True)
        result = read_result(folder)
        assert result
        assert result["status"] == "succeeded"
        events = [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]
        assert [event["step"] for event in events if event["kind"] == "started"] == starts
        assert [event["metrics"]["step"] for event in events if event["kind"] == "step"] == list(range(1, 7))
        (folder / "result.json").unlink()
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"checkpoint-3", "checkpoint-6"}


def test_a_launcher_that_is_no_program_is_refused_at_the_start() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "finetune", "serve", "--port", "1", "--launcher"]
    for launcher, message in (("no-such-program -n 2", "there is no program 'no-such-program'"), ("'", "quotation")):
        done = subprocess.run([*command, launcher], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr
        assert "→" in done.stderr
