"""Test a local Ray as the launcher, where the program `ray` is installed: pip install 'ray[default]'"""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest
from conftest import PATIENCE, adapter_bytes
from test_jobs import steps_of
from test_launchers import TORCHRUN, start_message, trained, trained_after_a_kill

from finetune.engine import worker_launcher

RAY = shutil.which("ray")
pytestmark = pytest.mark.skipif(RAY is None, reason="install it with: pip install 'ray[default]'")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Ray on this machine, and return its address."""
    port = free_port()
    options = [f"--port={free_port()}", f"--dashboard-port={port}", "--num-cpus=2", "--object-store-memory=100000000"]
    folder = f"--temp-dir={tmp_path_factory.mktemp('r')}"
    ray = subprocess.Popen([str(RAY), "start", "--head", "--block", *options, folder], start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{address}/api/jobs/", timeout=5).close()
            break
        except OSError:
            time.sleep(0.5)
    yield address
    for process in [*psutil.Process(ray.pid).children(recursive=True), ray]:
        process.kill()
    ray.wait()


@pytest.fixture
def by_ray(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = json.dumps({"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}})
    submit = f"{RAY} job submit --address {cluster} --runtime-env-json '{environment}'"
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", f"{submit} -- {TORCHRUN}")
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)


def test_ray_gives_the_bytes_of_torchrun_also_after_a_kill(
    client: openai.OpenAI, home: Path, by_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = trained_after_a_kill(client, home, "Step 12/", "rank 1")
    assert "2 processes" in start_message(client, job)
    assert steps_of(client, job.id) == list(range(1, 31))
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", TORCHRUN)
    assert adapter_bytes(client, job.id) == adapter_bytes(client, trained(client).id)
