"""The OpenAI SDK for Node.js; `openai_npm.cjs` asks with it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import CLIENTS, MODEL, QUESTION, TINY, Server, training_file

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


def run(server: Server, *arguments: str) -> Any:
    """Return what the program found."""
    address = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": server.key}
    environment = {**os.environ, **address, "NODE_PATH": str(CLIENTS / "npm" / "node_modules")}
    command = ["node", str(Path(__file__).with_name("openai_npm.cjs")), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_chat_streams_and_completions(server: Server) -> None:
    found = run(server, "chat", MODEL)
    plain = server.chat(QUESTION, max_tokens=30)
    text = plain["choices"][0]["message"]["content"]
    assert "Paris" in text
    assert found["whole"]["choices"][0]["message"]["content"] == text
    assert "".join(found["texts"]) == text
    assert len(found["texts"]) > 3
    assert found["usage"] == plain["usage"]
    assert found["helper"]["choices"][0]["message"]["content"] == text
    assert "three" in found["completion"]["choices"][0]["text"]
    assert {MODEL, TINY} <= set(found["models"])
    assert found["refused"] == {"status": 400, "param": "temperature", "is": True}


def test_tools(server: Server) -> None:
    found = run(server, "tools", MODEL)
    for answer in found.values():
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
        assert set(json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])) == {"city"}


def test_response_format(server: Server) -> None:
    choice = run(server, "parse", MODEL)["whole"]["choices"][0]
    assert set(json.loads(choice["message"]["content"])) == {"city"}


def test_a_fine_tune(server: Server, tmp_path: Path) -> None:
    found = run(server, "fine-tune", TINY, str(training_file(tmp_path)))
    assert found["job"]["status"] == "succeeded"
    assert ":npm:" in found["job"]["fine_tuned_model"]
    assert "metrics" in found["events"]
    assert found["results"].startswith("step,")
    assert found["answer"]["model"] == found["job"]["fine_tuned_model"]
    assert found["deleted"]["deleted"]
