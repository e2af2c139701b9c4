"""curl, as in a README: no library at all."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from conftest import MODEL, QUESTION, TINY, Server, training_file


def curl(server: Server, path: str, *arguments: str) -> Any:
    """Return what curl prints for a path of the API, which must be JSON."""
    return json.loads(curl_text(server, path, *arguments))


def curl_text(server: Server, path: str, *arguments: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail-with-body", server.url + path,
         "-H", f"Authorization: Bearer {server.key}", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def post(server: Server, path: str, body: dict[str, Any]) -> str:
    return curl_text(server, path, "-H", "Content-Type: application/json", "-d", json.dumps(body))


def test_models(server: Server) -> None:
    assert {MODEL, TINY} <= {model["id"] for model in curl(server, "/models")["data"]}


def test_chat(server: Server) -> None:
    answer = json.loads(post(server, "/chat/completions", {"model": MODEL, "messages": QUESTION, "temperature": 0}))
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["object"] == "chat.completion"


def test_stream(server: Server) -> None:
    body = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 12, "stream": True}
    lines = [line for line in post(server, "/chat/completions", body).splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert said == server.text(QUESTION, max_tokens=12)


def test_completions(server: Server) -> None:
    body = {"model": MODEL, "prompt": "One, two,", "temperature": 0, "max_tokens": 4, "logprobs": 2}
    choice = json.loads(post(server, "/completions", body))["choices"][0]
    assert "three" in choice["text"]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert all(len(top) == 2 for top in choice["logprobs"]["top_logprobs"])


def test_a_fine_tune(server: Server, tmp_path: Path) -> None:
    file = curl(server, "/files", "-F", "purpose=fine-tune", "-F", f"file=@{training_file(tmp_path)}")
    assert file["filename"] == "train.jsonl"
    hyperparameters = {"n_epochs": 1}
    body = {
        "model": TINY, "training_file": file["id"],
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    }  # fmt: skip
    job = json.loads(post(server, "/fine_tuning/jobs", body))
    for _ in range(400):
        job = curl(server, f"/fine_tuning/jobs/{job['id']}")
        if job["finished_at"]:
            break
        time.sleep(0.3)
    assert job["status"] == "succeeded"
    answer = json.loads(post(server, "/chat/completions", {"model": job["fine_tuned_model"], "messages": QUESTION}))
    assert answer["model"] == job["fine_tuned_model"]
    content = curl_text(server, f"/files/{job['result_files'][0]}/content")
    assert content.startswith("step,")
    assert curl(server, f"/files/{file['id']}", "-X", "DELETE")["deleted"]


def test_health_needs_no_key(server: Server) -> None:
    address = f"{server.url.removesuffix('/v1')}/health"
    done = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", address], capture_output=True)
    assert done.stdout == b"200"
