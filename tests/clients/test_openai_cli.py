"""The command `openai`, which the SDK had until its version 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import MODEL, QUESTION, TINY, Server, training_file

PROGRAM = Path(sys.executable).with_name("openai")
TEXT = QUESTION[0]["content"]


def run(server: Server, *arguments: str) -> str:
    """Return what `openai api` prints."""
    address = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": server.key}
    command = [PROGRAM, "api", *arguments]
    done = subprocess.run(command, env={**os.environ, **address}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_models(server: Server) -> None:
    printed = run(server, "models.list")  # an object after the other
    assert all(f'"id": "{name}"' in printed for name in (MODEL, TINY))
    assert json.loads(run(server, "models.retrieve", "-i", TINY))["id"] == TINY


def test_an_address_without_its_last_slash(server: Server) -> None:
    """Given as an option, the command appends paths to the address as it is."""
    command = [PROGRAM, "-b", server.url, "-k", server.key, "api", "models.list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "The path is /v1/models" in done.stderr
    command[2] += "/"
    assert MODEL in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_chat(server: Server) -> None:
    asked = ("chat.completions.create", "-m", MODEL, "-g", "user", TEXT, "-t", "0", "-M", "30")
    assert run(server, *asked).strip() == server.text(QUESTION, max_tokens=30)
    assert run(server, *asked, "--stream").strip() == server.text(QUESTION, max_tokens=30)


def test_completions(server: Server) -> None:
    asked = ("completions.create", "-m", MODEL, "-p", "One, two,", "-t", "0", "-M", "4")
    plain = server.ask("/completions", {"model": MODEL, "prompt": "One, two,", "temperature": 0, "max_tokens": 4})
    assert run(server, *asked).strip() == plain["choices"][0]["text"].strip()
    assert run(server, *asked, "--stream").strip() == plain["choices"][0]["text"].strip()


def test_files_and_a_fine_tune(server: Server, tmp_path: Path) -> None:
    file = json.loads(run(server, "files.create", "-f", str(training_file(tmp_path)), "-p", "fine-tune"))
    assert file["id"] in run(server, "files.list")
    job = json.loads(
        run(server, "fine_tuning.jobs.create", "-m", TINY, "-F", file["id"], "-H", '{"n_epochs": 1}', "-s", "cli")
    )
    for _ in range(200):
        job = json.loads(run(server, "fine_tuning.jobs.retrieve", "-i", job["id"]))
        if job["finished_at"]:
            break
    assert job["status"] == "succeeded"
    assert ":cli:" in job["fine_tuned_model"]
    assert job["id"] in run(server, "fine_tuning.jobs.list")
    assert "metrics" in run(server, "fine_tuning.jobs.list_events", "-i", job["id"])
    assert server.ask(f"/files/{file['id']}")["status"] == "processed"
    # The command's `files.delete` does not work: it checks the wrong arguments.
