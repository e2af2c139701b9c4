"""The server that all stages of one run of DVC use, and that ends with it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from finetune.engine import embedded, server_process

ROOT = Path(__file__).parents[2]
PRINTS_ADDRESS = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from finetune.provider.connect import start_engine
with start_engine() as (base_url, key):
    print(base_url, key)
"""


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(base_url: str, key: str) -> bool:
    try:
        return httpx.get(f"{base_url}/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    except httpx.TransportError:
        return False


def stage(folder: Path, home: Path, **environment: str) -> tuple[str, str]:
    """Return the address and the key that a stage gets, whose parent is this process."""
    (folder / "stage.py").write_text(PRINTS_ADDRESS)
    environment = {**os.environ, "FINETUNE_HOME": str(home), "DVC_STAGE": "baseline", **environment}
    done = subprocess.run(
        [sys.executable, folder / "stage.py"], capture_output=True, text=True, env=environment, check=True
    )
    base_url, key = done.stdout.split()
    return base_url, key


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that waits to be ended, in the place of DVC."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("FINETUNE_HOME", str(home))
    return home


def kill_server(record: Path) -> None:
    """Kill the server of a record, and wait until it has ended."""
    server = psutil.Process(json.loads(record.read_bytes())["pid"])
    server.kill()
    psutil.wait_procs([server], 60)


def server_in_thread(home: Path, pid: int) -> tuple[threading.Thread, Path]:
    """Start a server beside a process, in this one, and wait until it listens. Returns its thread and its record."""
    record = home / "record.json"
    thread = threading.Thread(target=embedded.serve_beside, args=(psutil.Process(pid), record))
    thread.start()
    wait_until(lambda: server_process.running(record))
    return thread, record


def test_all_stages_of_a_run_of_dvc_use_one_server_which_ends_with_it(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    project.mkdir()
    (project / "stage.py").write_text(PRINTS_ADDRESS)
    command = f"{sys.executable} stage.py"
    (project / "dvc.yaml").write_text(
        json.dumps({"stages": {name: {"cmd": f"{command} > {name}.txt", "outs": [f"{name}.txt"]} for name in "abc"}})
    )
    environment = {**os.environ, "FINETUNE_HOME": str(home), "DVC_NO_ANALYTICS": "1"}
    for arguments in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=project, env=environment, check=True)
    found = {(project / f"{name}.txt").read_text() for name in "abc"}
    assert len(found) == 1
    base_url, key = found.pop().split()
    wait_until(lambda: not answers(base_url, key))
    wait_until(lambda: not list((home / "servers").iterdir()))


@pytest.mark.slow
def test_stages_with_another_environment_have_another_server(tmp_path: Path, own_home: Path) -> None:
    first = stage(tmp_path, own_home)
    assert stage(tmp_path, own_home, FINETUNE_ENGINE_THREADS="1") != first
    assert stage(tmp_path, own_home, DVC_STAGE="tuned") == first
    for record in (own_home / "servers").iterdir():
        kill_server(record)


@pytest.mark.slow
def test_outside_of_dvc_each_command_has_its_own_server(tmp_path: Path, own_home: Path) -> None:
    base_url, key = stage(tmp_path, own_home, DVC_STAGE="x")
    assert answers(base_url, key)
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    done = subprocess.run(
        [sys.executable, tmp_path / "stage.py"], capture_output=True, text=True, env=environment, check=True
    )
    own_url, own_key = done.stdout.split()
    assert own_url != base_url
    assert not answers(own_url, own_key)
    for record in (own_home / "servers").iterdir():
        kill_server(record)


def test_a_killed_server_is_replaced(own_home: Path, parent: "subprocess.Popen[bytes]") -> None:
    first = server_process.address_beside(parent.pid)
    assert first
    assert server_process.address_beside(parent.pid) == first
    (record,) = (own_home / "servers").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    kill_server(record)
    second = server_process.address_beside(parent.pid)
    assert second
    assert second != first
    assert answers(second.base_url, second.key)
    assert not answers(second.base_url, first.key)


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": "x"}', '{"pid": 1, "started": 0, "address": 5}', "\x00"])
def test_an_illegible_record_is_no_server(own_home: Path, parent: "subprocess.Popen[bytes]", content: str) -> None:
    (own_home / "servers").mkdir()
    (own_home / "servers" / "old.json").write_text(content)
    assert server_process.address_beside(parent.pid)
    assert not (own_home / "servers" / "old.json").exists()


@pytest.mark.slow
def test_a_stage_whose_server_ends_says_so_at_once(tmp_path: Path, own_home: Path) -> None:
    """Nobody will listen at its address again, so waiting for it, as for a provider, would never end."""
    (tmp_path / "stage.py").write_text(
        "import json, os, pathlib, time, psutil\n"
        "from finetune.core.sections.provider import Provider\n"
        "from finetune.provider.connect import connect\n"
        "from finetune.provider.polling import poll\n"
        "with connect(Provider(name='local')) as connection:\n"
        "    def look():\n"
        "        return len(connection.control.models.list().data) - len(connection.control.models.list().data)\n"
        "    look()\n"
        f"    (record,) = pathlib.Path({str(own_home / 'servers')!r}).glob('*.json')\n"
        "    server = psutil.Process(json.loads(record.read_bytes())['pid'])\n"
        "    server.kill()\n"
        "    psutil.wait_procs([server], 20)\n"
        "    poll(0, look, bool, str, print, print, (0.1, 0.1))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_STAGE": "train"}
    command = [sys.executable, str(tmp_path / "stage.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert "The engine in the box has ended" in done.stderr
    assert "Run the same command again" in done.stderr


@pytest.mark.slow
def test_a_look_up_counts_as_a_client(
    own_home: Path, parent: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "IDLE_SECONDS", 5)
    thread, record = server_in_thread(own_home, parent.pid)
    for _ in range(7):
        time.sleep(1)
        os.utime(record)
    assert server_process.running(record)
    wait_until(lambda: not thread.is_alive())


@pytest.mark.slow
def test_a_server_waits_for_its_last_client(own_home: Path, parent: "subprocess.Popen[bytes]") -> None:
    address = server_process.address_beside(parent.pid)
    assert address
    with httpx.Client(base_url=address.base_url, headers={"Authorization": f"Bearer {address.key}"}) as client:
        assert client.get("models").status_code == 200
        parent.kill()
        parent.communicate()
        time.sleep(10 * embedded.LOOK_SECONDS)
        assert client.get("models").status_code == 200
    wait_until(lambda: not answers(address.base_url, address.key))
    wait_until(lambda: not list((own_home / "servers").iterdir()))


def test_a_server_without_clients_ends_in_the_end(
    own_home: Path, parent: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "IDLE_SECONDS", 1)
    thread, record = server_in_thread(own_home, parent.pid)
    wait_until(lambda: not thread.is_alive())
    assert not record.exists()


def test_what_keeps_a_server_from_starting_is_said_by_the_stage(tmp_path: Path, own_home: Path) -> None:
    (own_home / "engine.db").write_bytes(b"no database " * 100)
    with pytest.raises(subprocess.CalledProcessError) as error:
        stage(tmp_path, own_home)
    assert f"{own_home / 'engine.db'} is damaged" in error.value.stderr
