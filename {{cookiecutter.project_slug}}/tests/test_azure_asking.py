"""Asking a fine-tuned model at Azure, by the name of its deployment."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from loopback import completion
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import DEPLOYMENT, MODEL
from finetune.project import deployment, health

BASE = "gpt-4.1-mini-2025-04-14"
TUNED = f"{BASE}.ft-b044a9d3cf9c4228b5d393567f693b83"
OTHER = f"{BASE}.ft-0ab3f80e4f2242929258fff45b56a9ce"
AZURE = {"subscription": "s", "resource_group": "g", "account": "a"}
QUESTIONS = [f"Question {number}" for number in range(6)]


class Resource(ThreadingHTTPServer):
    """An Azure resource and its resource manager, which answer what Microsoft's documents print.

    - v1 REST API reference (MicrosoftDocs/azure-ai-docs, articles/foundry/openai/latest.md): `POST
      {endpoint}/openai/v1/chat/completions`; `model` is "the model deployment identifier to use for the chat completion
      request". The example of an answer has `id`, `created`, `choices` and `usage`, and no `model`: here it is `named`.
    - Deploy a fine-tuned model (same repository, how-to/fine-tuning-deploy.md): `model="gpt-4.1-mini-ft"`, the "custom
      deployment name you chose for your fine-tuning model"; such a model is called
      `gpt-4.1-mini-2025-04-14.ft-b044a9d3cf9c4228b5d393567f693b83`.
    - Without the deployment, or while it is made, 404 (learn.microsoft.com/answers/questions/1189174): `{"error":
      {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist. If you created the
      deployment within the last 5 minutes, please wait a moment and try again."}}`.
    - At another address, 404 (learn.microsoft.com/answers/questions/1320115): `{"error": {"code": "404", "message":
      "Resource not found"}}`.
    - The fine-tuning tutorial (same repository, openai/tutorials/fine-tune.md) prints the checkpoints of a job: `{"id":
      "ftchkpt-148ab69f0a404cf9ab55a73d51b152de", "fine_tuned_model_checkpoint": "gpt-4o-mini-2024-07-18.ft-0e208cf…"}`
      for the last, and `"…ft-0e208cf…:ckpt-step-90"` before it. The how-to deploys one "by passing the checkpoint ID".
    - Deployments - Get (Azure/azure-rest-api-specs, cognitiveservices, stable/2024-10-01): `properties.model` and
      `properties.provisioningState`, one of Accepted, Creating, Deleting, Moving, Failed, Succeeded, Disabled and
      Canceled. A missing one is a 404 with the manager's `{"error": {"code": …, "message": …}}`.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.deployments = {"gpt-4.1-mini-ft": {"model": TUNED, "state": "Succeeded"}}
        self.named: str | None = BASE
        self.asked: list[str] = []

    def chat(self, name: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(name)
        if self.deployments.get(name, {}).get("state") != "Succeeded":
            text = (
                "The API deployment for this resource does not exist. If you created the deployment within the last 5"
            )
            message = f"{text} minutes, please wait a moment and try again."
            return 404, {"error": {"code": "DeploymentNotFound", "message": message}}
        answer = completion("An answer")
        del answer["model"]
        return 200, answer | ({"model": self.named} if self.named else {})

    def manage(self, name: str) -> tuple[int, dict[str, Any]]:
        if name not in self.deployments:
            return 404, {"error": {"code": "ResourceNotFound", "message": f"The deployment {name} was not found."}}
        model = {"format": "OpenAI", "name": self.deployments[name]["model"], "version": "1"}
        return 200, {"name": name, "properties": {"model": model, "provisioningState": self.deployments[name]["state"]}}


NOT_THERE: tuple[int, dict[str, Any]] = (404, {"error": {"code": "404", "message": "Resource not found"}})


class Handler(BaseHTTPRequestHandler):
    server: Resource

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        name = self.path.partition("?")[0].rpartition("/")[2]
        if self.command == "PUT":
            self.server.deployments[name] = {"model": body["properties"]["model"]["name"], "state": "Succeeded"}
        path = self.path.partition("?")[0]
        status, found = NOT_THERE
        if path == "/openai/v1/chat/completions":
            status, found = self.server.chat(body["model"])
        elif path.startswith("/subscriptions/s/resourceGroups/g/"):
            status, found = self.server.manage(name)
        elif path in LISTS:
            status, found = 200, {"object": "list", "data": LISTS[path], "has_more": False}
        content = json.dumps(found).encode()
        if path == "/openai/v1/files/file-1/content":  # Azure's files begin with a byte order mark
            status, content = 200, b"\xef\xbb\xbf" + b"".join(json.dumps(row).encode() + b"\n" for row in EXAMPLES)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


EXAMPLES = [
    {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Right"}]} for text in QUESTIONS
]
JOB = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "created_at": 1,
    "model": BASE,
    "fine_tuned_model": TUNED,
    "organization_id": "",
    "result_files": [],
    "seed": 1,
    "status": "succeeded",
    "hyperparameters": {"n_epochs": 2},
    "training_file": "file-1",
    "validation_file": None,
}
EARLIER = f"{TUNED}:ckpt-step-90"
CHECKPOINTS = (
    ("ftchkpt-148ab69f0a404cf9ab55a73d51b152de", TUNED, 100),
    ("ftchkpt-e559c011ecc04fc68eaa339d8227d02d", EARLIER, 90),
)
LISTS: dict[str, list[dict[str, Any]]] = {
    "/openai/v1/models": [{"id": TUNED, "object": "model", "created": 1, "owned_by": "azure"}],
    "/openai/v1/files": [],
    "/openai/v1/fine_tuning/jobs": [JOB],
    "/openai/v1/fine_tuning/jobs/ftjob-1/events": [],
    "/openai/v1/fine_tuning/jobs/ftjob-1/checkpoints": [
        {
            "id": name,
            "object": "fine_tuning.job.checkpoint",
            "created_at": 1,
            "fine_tuning_job_id": "ftjob-1",
            "fine_tuned_model_checkpoint": model,
            "step_number": step,
            "metrics": {},
        }
        for name, model, step in CHECKPOINTS
    ],
}


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resource]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AZURE_ARM_TOKEN", "token")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "key")
    write_json(DEPLOYMENT, {"provider": "azure", "model": TUNED, "name": "gpt-4.1-mini-ft"})
    Path("models.toml").write_text(f'["{BASE}".azure]\ninput = 1.0\noutput = 4.0\n', encoding="utf-8")
    with Resource() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        write_params(server)
        yield server
        server.shutdown()
        thread.join()


def write_params(server: Resource, path: str = "/openai/v1/", deploy: dict[str, str] = AZURE) -> None:
    address = f"http://127.0.0.1:{server.server_address[1]}"
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    values = {
        "data": {"file": "raw.csv", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
        "provider": {"name": "azure", "base_url": address + path, "deploy": {"address": address, **deploy}},
        "train": {"base": BASE, "method": "supervised", "seed": 1, **auto},
        "evaluate": {"max_tokens": 6, "temperature": 0.0, "concurrency": 3},
    }
    YAML().dump(values, Path("params.yaml"))


def save() -> Any:
    return CliRunner().invoke(app, ["rescue", "save", TUNED, "--usd", "1"])


ANSWERS = Path("data/rescued") / TUNED / "answers.jsonl"


@pytest.mark.parametrize("named", [None, BASE, TUNED])
def test_a_model_is_asked_by_its_deployment_whatever_model_the_answers_name(azure: Resource, named: str | None) -> None:
    azure.named = named
    done = save()
    assert done.exit_code == 0, (done.output, done.exception)
    assert azure.asked == ["gpt-4.1-mini-ft"] * len(QUESTIONS)
    rows = read_jsonl(ANSWERS, "rescue")
    assert [row["messages"][0]["content"] for row in rows] == QUESTIONS  # the mark before the first row is gone
    assert {row["expected"] for row in rows} == {"Right"}
    assert "answers only when it is deployed" in CliRunner().invoke(app, ["rescue", "list"]).output
    assert save().exit_code == 0
    assert len(azure.asked) == len(QUESTIONS)  # a second run asks nothing


@pytest.mark.slow
def test_a_checkpoint_is_found_and_deployed_by_its_id(azure: Resource) -> None:
    for given in (CHECKPOINTS[1][0], EARLIER):
        done = CliRunner().invoke(app, ["rescue", "save", given, "--usd", "1"])
        assert isinstance(done.exception, FinetuneError)
        assert f"The files of {EARLIER} are saved" in done.exception.what
    write_json(MODEL, {"model": EARLIER, "job": "ftjob-1", "base": BASE, "chosen": {"step": 90}})
    record = deployment.deploy(load_params())
    assert record["source"] == azure.deployments[record["name"]]["model"] == CHECKPOINTS[1][0]
    done = CliRunner().invoke(app, ["rescue", "save", CHECKPOINTS[1][0], "--usd", "1"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert azure.asked == [record["name"]] * len(QUESTIONS)
    azure.deployments[record["name"]]["model"] = TUNED
    with pytest.raises(FinetuneError, match=f"has the model {TUNED} now"):
        deployment.answering_name(load_params(), EARLIER)


def test_answers_of_another_model_are_not_recorded(azure: Resource) -> None:
    write_params(azure, deploy={})  # without the right to read deployments
    azure.named = OTHER
    done = save()
    assert isinstance(done.exception, FinetuneError)
    assert f"has the model {OTHER} now" in str(done.exception)
    assert not ANSWERS.exists()


def test_a_deployment_that_is_gone_is_not_asked(azure: Resource) -> None:
    azure.deployments.clear()
    with pytest.raises(FinetuneError, match=r"gpt-4\.1-mini-ft of .* is gone: .*404.*\n.*finetune deploy"):
        deployment.answering_name(load_params(), TUNED)
    done = save()
    assert isinstance(done.exception, FinetuneError)
    assert f"The files of {TUNED} are saved" in str(done.exception)
    assert not azure.asked


@pytest.mark.parametrize("state", ["Accepted", "Creating"])
def test_a_deployment_that_is_not_ready_is_not_asked(azure: Resource, state: str) -> None:
    azure.deployments["gpt-4.1-mini-ft"]["state"] = state
    with pytest.raises(FinetuneError, match=f"is not ready: its state is '{state}'"):
        deployment.answering_name(load_params(), TUNED)
    assert not azure.asked


def test_where_deployments_cannot_be_read_the_refusal_says_what_to_do(azure: Resource) -> None:
    write_params(azure, deploy={})
    azure.deployments["gpt-4.1-mini-ft"]["state"] = "Creating"
    done = save()
    assert isinstance(done.exception, FinetuneError)
    assert "API deployment for this resource does not exist" in done.exception.what
    assert done.exception.remedy.startswith("Deploy with: finetune deploy (for the base: provider.base_deployment).")


@pytest.mark.parametrize("path", ["", "/openai", "/openai/deployments/gpt-4.1-mini-ft"])
def test_another_form_of_the_address_is_named(azure: Resource, path: str) -> None:
    write_params(azure, path)
    checks = {check.check: check for check in health.check_provider(load_params(), ask=False)}
    found = checks["key and address"]
    assert found.state == "wrong"
    assert found.found.endswith("answered 404: Resource not found")
    assert found.todo.startswith("Compare provider.base_url with https://<resource>.openai.azure.com/openai/v1/")


def test_an_address_with_an_api_version_is_refused(azure: Resource) -> None:
    """The client would put it into the middle of each address."""
    write_params(azure, "/openai/v1/?api-version=2024-10-21")
    with pytest.raises(FinetuneError, match=r"provider\.base_url': leave out `\?` and all after it"):
        load_params()
