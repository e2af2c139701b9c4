"""Deployments at Azure and Nebius, on a loopback server that imitates both."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import MODEL
from finetune.project import deployment
from finetune.provider import deployment_api

TOKEN = "arm-token-of-the-test"
TUNED = "gpt-4.1-mini-2025-04-14.ft-abc"


class Cloud(ThreadingHTTPServer):
    """Both control planes: a deployment is ready at the third look, and the server fails once in between."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.deployed: dict[str, Any] = {}
        self.looks = 0
        self.failures = 1
        self.ends_as: str | None = None
        self.calls: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Cloud

    def handle_call(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.server.calls.append(f"{self.command} {self.path}")
        azure = self.path.startswith("/subscriptions/")
        if self.headers["authorization"] != f"Bearer {TOKEN if azure else 'nebius-key'}":
            self.reply(403, {"error": {"message": f"no permission for {self.headers['authorization']}"}})
            return
        name = self.path.split("?")[0].rsplit("/", 1)[1]
        if self.command in ("PUT", "POST"):
            self.server.deployed[name if azure else body["name"]] = body
            self.reply(201, {})
        elif self.command == "DELETE":
            self.reply(200 if self.server.deployed.pop(name, None) else 404, {})
        elif name not in self.server.deployed:
            self.reply(404, {"detail": "no such deployment"})
        elif self.server.looks == 1 and self.server.failures:
            self.server.failures -= 1
            self.reply(503, {"error": {"message": "overloaded"}})
        else:
            self.server.looks += 1
            word = "waiting" if self.server.looks < 3 else self.server.ends_as or ("Succeeded" if azure else "active")
            self.reply(200, {"properties": {"provisioningState": word}} if azure else {"status": word})

    do_GET = do_PUT = do_POST = do_DELETE = handle_call

    def reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_ARM_TOKEN", TOKEN)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    monkeypatch.setenv("NEBIUS_API_KEY", "nebius-key")
    monkeypatch.setattr(deployment_api, "POLL_SECONDS", (0.01, 0.01))
    write_json(MODEL, {"model": TUNED, "job": "ftjob-1"})
    server = Cloud()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def write_params(cloud: Cloud, provider: str, **where: str) -> None:
    address = f"http://127.0.0.1:{cloud.server_address[1]}"
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    values = {
        "data": {"file": "raw.csv", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
        "provider": {"name": provider, "base_url": f"{address}/v1", "deploy": {"address": address, **where}},
        "train": {"base": "gpt-4.1-mini-2025-04-14", "method": "supervised", "seed": 1, **auto},
        "evaluate": {"max_tokens": 6, "temperature": 0.0, "concurrency": 8},
    }
    YAML().dump(values, Path("params.yaml"))


AZURE = {"subscription": "s", "resource_group": "g", "account": "a"}


def test_azure_deploys_through_its_resource_manager_after_the_price_is_confirmed(cloud: Cloud) -> None:
    write_params(cloud, "azure", **AZURE)
    params = load_params()
    with pytest.raises(FinetuneError, match=r"\$1\.70 an hour"):
        deployment.answering_name(params, TUNED)
    asked = CliRunner().invoke(app, ["deploy"], input="n\n")
    assert asked.exit_code == 1
    assert "$1.70 an hour" in asked.output
    assert not cloud.deployed
    done = CliRunner().invoke(app, ["deploy", "--yes"])
    assert done.exit_code == 0, done.output
    name = "gpt-4-1-mini-2025-04-14-ft-abc"
    assert cloud.deployed[name]["properties"]["model"] == {"format": "OpenAI", "name": TUNED, "version": "1"}
    assert cloud.deployed[name]["sku"] == {"name": "standard", "capacity": 1}
    assert "/subscriptions/s/resourceGroups/g/" in cloud.calls[0]
    assert deployment.answering_name(params, TUNED) == name
    with pytest.raises(FinetuneError, match="only when it is deployed"):
        deployment.answering_name(params, "another-model")
    assert name in CliRunner().invoke(app, ["deploy", "--remove"]).output
    assert not cloud.deployed
    with pytest.raises(FinetuneError):
        deployment.answering_name(params, TUNED)


def test_nebius_deploys_the_jobs_checkpoint(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(cloud, "nebius", name="triage")
    assert deployment.deploy(load_params())["name"] == "triage"
    assert cloud.calls[0] == "POST /v0/models"
    assert cloud.failures == 0
    assert capsys.readouterr().err.splitlines() == [
        "deploy: requested",
        "deploy: waiting",
        "The provider does not answer (TemporaryError). Deployment triage (waiting): still waiting.",
        "deploy: active",
    ]
    assert cloud.deployed["triage"] == {
        "name": "triage",
        "base_model": "gpt-4.1-mini-2025-04-14",
        "source": f"ftjob-1:{TUNED}",
    }


def test_errors_do_not_show_the_token(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(cloud, "azure")
    with pytest.raises(FinetuneError, match=r"provider\.deploy .* lacks subscription, resource_group, account"):
        deployment.deploy(load_params())
    write_params(cloud, "azure", **AZURE)
    cloud.ends_as = "Failed"
    with pytest.raises(FinetuneError, match="ended as 'Failed'"):
        deployment.deploy(load_params())
    monkeypatch.setenv("AZURE_ARM_TOKEN", "not-the-right-one")
    with pytest.raises(FinetuneError) as caught:
        deployment.deploy(load_params())
    assert "403" in str(caught.value)
    assert "not-the-right-one" not in str(caught.value)
    monkeypatch.delenv("AZURE_ARM_TOKEN")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FinetuneError, match="az login"):
        deployment.deploy(load_params())


def test_a_provider_without_deployments_uses_the_models_own_name(cloud: Cloud) -> None:
    write_params(cloud, "openai")
    assert deployment.answering_name(load_params(), TUNED) == TUNED
    done = CliRunner().invoke(app, ["deploy", "--yes"])
    assert isinstance(done.exception, FinetuneError)
    assert "as soon as it is trained" in str(done.exception)
