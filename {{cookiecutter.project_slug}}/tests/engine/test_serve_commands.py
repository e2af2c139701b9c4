"""The commands of model cards and of docs/shipping.md serve a model that answers as it was measured.

Each test needs its server on PATH: `vllm`, `llama-server` or `ollama`.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from small_model import small_model

from finetune.export.adapter import export_adapter
from finetune.export.gguf import FILE, export_gguf
from finetune.export.measure import Measured
from finetune.export.merge import export_merged
from finetune.export.modelfile import modelfile
from finetune.export.prompts import prompts_of
from finetune.export.serving import MODEL, serve_commands

SECONDS = 600  # vLLM imports and compiles for over a minute, and for several on a busy machine
EQUAL = 0.75  # share of the answers; the model is random, so another order of sums may change a late token


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return small_model(tmp_path_factory.mktemp("small"))


def needs(server: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(server), reason=f"{server} is not installed")


@contextmanager
def running(command: list[str], folder: Path, health: str, more: Mapping[str, str]) -> Iterator[None]:
    """Run a server for the block, which begins when it answers the address `health`."""
    log = (folder / "server.log").open("w+")
    # In a new session, so that the further processes that vLLM starts can be ended with it.
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **more}, stdout=log, stderr=log, start_new_session=True
    )
    end = time.monotonic() + SECONDS
    try:
        while True:
            try:
                urllib.request.urlopen(health, timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((folder / "server.log").read_text()[-3000:]) from None
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def agreement(model: Measured, port: int) -> float:
    """Return the share of the measured answers that a server on this machine gives too."""
    equal = 0
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=60) as client:
        for prompt, row in zip(prompts_of(model.questions, model.examples), model.rows, strict=True):
            messages: Any = prompt
            found = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=8)
            equal += (found.choices[0].message.content or "").strip() == row["answer"]
    return equal / len(model.rows)


@needs("vllm")
@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_vllm(name: str, model: Measured, tmp_path: Path) -> None:
    if name == "adapter":
        export_adapter(model.adapter, "small", tmp_path / "exports" / name)
    else:
        export_merged(model.base, model.adapter, tmp_path / "exports" / name)
    (line,) = serve_commands(name, "small", f"exports/{name}", rank=4)
    command, port = shlex.split(line.replace(" BASE ", f" {shlex.quote(str(model.base))} ")), free_port()
    more = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with running([*command, "--port", str(port)], tmp_path, f"http://127.0.0.1:{port}/health", more):
        assert agreement(model, port) >= EQUAL


def gguf_project(model: Measured, folder: Path) -> list[list[str]]:
    """Export a GGUF file with its Modelfile, and return the commands that serve it."""
    pytest.importorskip("xllamacpp", reason="the extra export is not installed")
    target = folder / "exports/gguf-bf16"
    export_merged(model.base, model.adapter, folder / "merged")
    export_gguf(folder / "merged", target.name, target)
    text = modelfile(model.tokenizer, model.questions, model.prompts, "<|im_end|>", FILE)
    assert text
    (target / "Modelfile").write_text(text, encoding="utf-8")
    return [shlex.split(one) for one in serve_commands(target.name, "small", "exports/gguf-bf16")]


@needs("llama-server")
def test_llama_server(model: Measured, tmp_path: Path) -> None:
    command, port = gguf_project(model, tmp_path)[0], free_port()
    with running([*command, "--port", str(port)], tmp_path, f"http://127.0.0.1:{port}/health", {}):
        assert agreement(model, port) >= EQUAL


@needs("ollama")
def test_ollama(model: Measured, tmp_path: Path) -> None:
    create, port = gguf_project(model, tmp_path)[1], free_port()
    more = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path / "models")}
    with running(["ollama", "serve"], tmp_path, f"http://127.0.0.1:{port}", more):
        subprocess.run(create, cwd=tmp_path, env={**os.environ, **more}, check=True, timeout=SECONDS)
        assert agreement(model, port) >= EQUAL
