"""Start a separate engine for each test module, and connect the real client to it over HTTP."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tiny import make_tiny_base

from finetune.engine import before_torch
from finetune.engine.embedded import embedded

COLOURS = ["red", "blue", "green"]
PATIENCE = 600  # seconds; so long that only a fault, and no load of the machine, can end a wait


def training_lines(examples: int = 24) -> bytes:
    """Return chat examples in which the answer is the colour that the question names."""
    rows = []
    for n in range(examples):
        colour = COLOURS[n % 3]
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": f"{n}: paint it {colour}"},
                    {"role": "assistant", "content": colour},
                ]
            }
        )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def wait(client: openai.OpenAI, job_id: str) -> Any:
    """Wait until a job has ended and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in ("succeeded", "failed", "cancelled"):
            return job
        time.sleep(0.2)
    raise AssertionError(f"job {job_id} is still {job.status}")


def start_job(client: openai.OpenAI, epochs: int = 2, examples: int = 24, **more: Any) -> Any:
    """Create a job on the tiny base."""
    file = client.files.create(file=("train.jsonl", training_lines(examples)), purpose="fine-tune")
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs}}}
    settings: dict[str, Any] = {"model": "tiny", "training_file": file.id, "validation_file": file.id, "seed": 7}
    return client.fine_tuning.jobs.create(**{**settings, "method": method, **more})


def adapter_bytes(client: openai.OpenAI, job_id: str) -> list[bytes]:
    """Return the content of the final checkpoint's adapter files."""
    final = client.fine_tuning.jobs.checkpoints.list(job_id).data[0]
    return [client.files.content(file).content for file in final.result_files]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a FINETUNE_HOME that holds only the tiny base."""
    folder = tmp_path_factory.mktemp("home")
    before_torch(folder)
    make_tiny_base(folder / "bases" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[openai.OpenAI]:
    """Connect the real client, which checks each answer against OpenAI's types."""
    with (
        embedded() as address,
        openai.OpenAI(
            base_url=address.base_url, api_key=address.key, _strict_response_validation=True, max_retries=0
        ) as found,
    ):
        yield found


@pytest.fixture(scope="session")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the process that `forked_workers` forks from, once for all modules; yield the launcher that uses it."""
    here = Path(__file__).parent
    path = tmp_path_factory.mktemp("s") / "s"  # short, because the length of a socket's path is limited
    program = str(here / "forked.py")
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1]), "PYTHONHASHSEED": "0"}
    workers = subprocess.Popen([sys.executable, program, "serve", path], stdout=subprocess.PIPE, env=environment)
    assert workers.stdout
    assert workers.stdout.readline() == b"ready\n"
    yield f"{sys.executable} -S {program} {path}"
    workers.kill()
    workers.wait()
    workers.stdout.close()


@pytest.fixture(scope="module")
def forked_workers(forking: str) -> Iterator[None]:
    """Fork the workers of the module's engine from a process that has imported torch; see `forked.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_ENGINE_LAUNCHER", forking)
        yield
