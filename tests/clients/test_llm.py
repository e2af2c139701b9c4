"""llm, the command, with models that its file `extra-openai-models.yaml` names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MODEL, QUESTION, Server

PROGRAM = Path(sys.executable).with_name("llm")
MODELS = """\
- model_id: small
  model_name: {model}
  api_base: {url}
  api_key_name: engine
  supports_tools: true
  supports_schema: true
- model_id: small-completions
  model_name: {model}
  api_base: {url}
  api_key_name: engine
  completion: true
"""
SETTINGS = ("-o", "temperature", "0", "-o", "max_tokens", "30")
TEXT = QUESTION[0]["content"]


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Path:
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(model=MODEL, url=server.url))
    run(tmp_path, "keys", "set", "engine", "--value", server.key)
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    """Return what a command of llm prints."""
    environment = {**os.environ, "LLM_USER_PATH": str(folder)}
    done = subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [[], ["--no-stream"]], ids=["stream", "whole"])
def test_a_question(folder: Path, server: Server, options: list[str]) -> None:
    printed = run(folder, "-m", "small", *SETTINGS, *options, TEXT)
    assert printed.rstrip("\n") == server.text(QUESTION, max_tokens=30)
    (logged,) = json.loads(run(folder, "logs", "--json"))
    assert logged["response"] == server.text(QUESTION, max_tokens=30)
    assert logged["output_tokens"] == server.chat(QUESTION, max_tokens=30)["usage"]["completion_tokens"]


def test_system_and_continued_conversation(folder: Path, server: Server) -> None:
    run(folder, "-m", "small", *SETTINGS, "-s", "You are a teacher.", TEXT)
    printed = run(folder, "-c", *SETTINGS, "And of Italy?")
    messages = [{"role": "system", "content": "You are a teacher."}, *QUESTION]
    first = server.text(messages, max_tokens=30)
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "And of Italy?"}]
    assert printed.rstrip("\n") == server.text(messages, max_tokens=30)


def test_completions(folder: Path, server: Server) -> None:
    printed = run(folder, "-m", "small-completions", "-o", "temperature", "0", "-o", "max_tokens", "4", "One, two,")
    plain = server.ask("/completions", {"model": MODEL, "prompt": "One, two,", "temperature": 0, "max_tokens": 4})
    assert printed.rstrip("\n") == plain["choices"][0]["text"]


def test_json_object(folder: Path) -> None:
    printed = run(
        folder, "-m", "small", "-o", "temperature", "0", "-o", "max_tokens", "100", "-o", "json_object", "1",
        f"{TEXT} Answer as JSON.",
    )  # fmt: skip
    assert isinstance(json.loads(printed), dict)


def test_schema(folder: Path) -> None:
    kinds = {"age": {"type": "integer"}, "is_old": {"type": "boolean"}}
    schema = {"type": "object", "properties": kinds, "required": list(kinds), "additionalProperties": False}
    printed = run(folder, "-m", "small", "-o", "temperature", "0", "--schema", json.dumps(schema), "A dog of 3")
    assert set(json.loads(printed)) == {"age", "is_old"}


def test_tools(folder: Path) -> None:
    functions = 'def now() -> str:\n    "Return the time"\n    return "noon"'
    printed = run(folder, "-m", "small", *SETTINGS, "--functions", functions, "--chain-limit", "3", "What time is it?")
    assert printed.strip()
