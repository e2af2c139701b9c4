"""Deployments at Azure and Nebius, on a loopback server that answers what their own documents print."""

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
from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import DEPLOYMENT, MODEL
from finetune.project import deployment
from finetune.provider import completions, deployment_api
from finetune.provider.answer_cache import open_answer_cache
from finetune.provider.completions import answer_all
from finetune.provider.connect import connect
from finetune.provider.ready_model import wait_for_model
from finetune.rescue.save import find, name_to_ask, save_files

TOKEN = "arm-token-of-the-test"
BASE = "gpt-4.1-mini-2025-04-14"
TUNED = f"{BASE}.ft-abc"


NEBIUS_BASE = "meta-llama/Llama-3.1-8B-Instruct"


class Cloud(ThreadingHTTPServer):
    """Both control planes: a deployment is ready at the third look, and the server fails once in between.

    Azure's answers what the example of Deployments - Create Or Update prints (Azure/azure-rest-api-specs,
    cognitiveservices, stable/2024-10-01, PutDeployment.json), 201 for a new deployment and 200 for a changed one:
    `{"id": "/subscriptions/…/deployments/deploymentName", "name": "deploymentName", "type":
    "Microsoft.CognitiveServices/accounts/deployments", "sku": {"name": "Standard", "capacity": 1}, "properties":
    {"model": {"format": "OpenAI", "name": "ada", "version": "1"}, "provisioningState": "Accepted"}}`; later, the state
    is `Succeeded`. It also answers chat requests to a deployment, in which it names the base alone (`named`) or the
    model.

    Nebius' answers what the notebooks of nebius/token-factory-cookbook (post-training/fine-tuning-1 and distillation)
    show: `POST /v0/models` takes `name: my-finetuned-model`, `source: <job id>:<checkpoint id>` and `base_model`, the
    base's ID for inference; the answer's `name` is `<base_model>-LoRa:my-finetuned-model-AbCd`. That one is polled by
    `GET /v0/models/{name}` while its `status` is `validating`, until it is `active` or `error`, and is the `model` of
    chat requests. Jobs, their checkpoints and files have the form of OpenAI's API, but a job has no `fine_tuned_model`
    (its API reference has none, and a notebook prints None), and its `result_files` are `[]`. A checkpoint's are its
    weights, which the notebooks write by `files.content(file)` under `filename.split('/')[1]`.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.deployed: dict[str, Any] = {}
        self.looks = 0
        self.failures = 1
        self.ends_as: str | None = None
        self.calls: list[str] = []
        self.chats = 0
        self.named: str | None = BASE
        self.moved = False
        self.odd: Any = None  # answers to questions have these fields, or are this


class Handler(BaseHTTPRequestHandler):
    server: Cloud

    def handle_call(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.server.calls.append(f"{self.command} {self.path}")
        if self.path.endswith("/chat/completions"):
            self.server.chats += 1
            model = self.server.deployed[body["model"]]["properties"]["model"]["name"]
            by = {"model": self.server.named or model, "system_fingerprint": "fp_1"}
            self.reply(200, completion(f"I am {model}") | by)
            return
        if self.server.moved:
            self.reply(307, {}, location="http://localhost/elsewhere")
            return
        azure = self.path.startswith("/subscriptions/")
        if self.headers["authorization"] != f"Bearer {TOKEN if azure else 'nebius-key'}":
            self.reply(403, {"error": {"message": f"no permission for {self.headers['authorization']}"}})
            return
        if self.path.startswith("/v1/"):
            self.reply(200, nebius_object(self.path.removeprefix("/v1/").partition("?")[0]))
            return
        name = self.path.split("?")[0].rsplit("/", 1)[1] if azure else self.path.removeprefix("/v0/models").lstrip("/")
        if self.command in ("PUT", "POST"):
            name = name if azure else f"{body['base_model']}-LoRa:{body['name']}-AbCd"
            is_new = name not in self.server.deployed
            self.server.deployed[name] = body
            nebius = {"name": name, "base_model": body.get("base_model"), "status": "validating"}
            self.reply(201 if is_new else 200, self.azure_deployment(name, "Accepted") if azure else nebius)
        elif self.command == "DELETE":
            self.reply(200 if self.server.deployed.pop(name, None) else 404, {})
        elif name not in self.server.deployed:
            self.reply(404, {"detail": "no such deployment"})
        elif self.server.looks == 1 and self.server.failures:
            self.server.failures -= 1
            self.reply(503, {"error": {"message": "overloaded"}})
        else:
            self.server.looks += 1
            early, ready = ("Accepted", "Succeeded") if azure else ("validating", "active")
            word = early if self.server.looks < 3 else self.server.ends_as or ready
            reason = {"status_reason": "The rank of the adapter is too large."} if word == "error" else {}
            self.reply(200, self.azure_deployment(name, word) if azure else {"name": name, "status": word, **reason})

    def azure_deployment(self, name: str, state: str) -> dict[str, Any]:
        """Return the body that Microsoft's pages on Deployments - Get, and - Create Or Update, print."""
        body = self.server.deployed[name]
        return {
            "id": self.path.split("?")[0],
            "name": name,
            "type": "Microsoft.CognitiveServices/accounts/deployments",
            "sku": body["sku"],
            "properties": {**body["properties"], "provisioningState": state},
        }

    do_GET = do_PUT = do_POST = do_DELETE = handle_call

    def reply(self, status: int, body: dict[str, Any], **headers: str) -> None:
        odd = self.server.odd if self.command == "GET" and not self.path.startswith("/v1/") else None
        content = json.dumps({**body, **odd} if isinstance(odd, dict) else odd or body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def nebius_object(path: str) -> dict[str, Any]:
    """Return what Nebius answers about a job with two checkpoints and its files."""
    lists: dict[str, list[dict[str, Any]]] = {
        "models": [],
        "files": [],
        "fine_tuning/jobs": [job()],
        "fine_tuning/jobs/ftjob-1/events": [],
        "fine_tuning/jobs/ftjob-1/checkpoints": checkpoints(),
    }
    if path in lists:
        return {"object": "list", "data": lists[path], "has_more": False}
    if path.endswith("/content"):
        return example() if path == "files/file-train/content" else {"weights": path}
    file = {"id": path.removeprefix("files/"), "object": "file", "created_at": 1, "bytes": 1, "purpose": "fine-tune"}
    return {**file, "filename": "ftckpt-20/adapter_model.safetensors", "status": "processed"}


def example() -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}


def job() -> dict[str, Any]:
    return {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 1,
        "model": NEBIUS_BASE,
        "organization_id": "",
        "result_files": [],
        "seed": 1,
        "status": "succeeded",
        "hyperparameters": {"n_epochs": 2},
        "training_file": "file-train",
        "validation_file": None,
    }


def checkpoints() -> list[dict[str, Any]]:
    """Return the checkpoints of a job: the names of its models are not what can be asked."""
    return [
        {
            "id": f"ftckpt-{step}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": step,
            "fine_tuning_job_id": "ftjob-1",
            "fine_tuned_model_checkpoint": f"model-of-step-{step}",
            "step_number": step,
            "metrics": {"train_loss": 1.0, "valid_loss": 1.0},
            "result_files": [f"file-{step}"],
        }
        for step in (20, 10)
    ]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AZURE_ARM_TOKEN", TOKEN)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    monkeypatch.setenv("NEBIUS_API_KEY", "nebius-key")
    monkeypatch.setattr(deployment_api, "POLL_SECONDS", (0.01, 0.01))
    write_json(MODEL, {"model": TUNED, "job": "ftjob-1", "base": BASE, "chosen": {"step": 10}})
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


def record_at_nebius(model: str, step: int) -> None:
    write_json(MODEL, {"model": model, "job": "ftjob-1", "base": NEBIUS_BASE, "chosen": {"step": step}})


def test_nebius_deploys_the_jobs_checkpoint_under_a_name_of_its_own(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(cloud, "nebius", name="triage")
    record_at_nebius("model-of-step-10", 10)
    name = "meta-llama/Meta-Llama-3.1-8B-Instruct-LoRa:triage-AbCd"
    assert deployment.deploy(load_params())["name"] == name
    assert [call for call in cloud.calls if call.startswith("POST")] == ["POST /v0/models"]
    assert cloud.failures == 0
    assert capsys.readouterr().err.splitlines() == [
        "deploy: requested",
        "deploy: validating",
        f"The provider does not answer (TemporaryError). Deployment {name} (validating): still waiting.",
        "deploy: active",
    ]
    assert cloud.deployed[name] == {
        "name": "triage",
        "base_model": "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "source": "ftjob-1:ftckpt-10",
    }
    assert deployment.answering_name(load_params(), "model-of-step-10") == name
    assert deployment.deploy(load_params())["name"] == name  # it is there: none is made beside it
    assert len([call for call in cloud.calls if call.startswith("POST")]) == 1
    assert deployment.remove(load_params()) == name
    assert not cloud.deployed


def test_a_nebius_deployment_that_was_not_waited_for_is_not_made_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(cloud, "nebius")
    record_at_nebius("another-name", 20)  # the checkpoint is found by its step
    with monkeypatch.context() as patch:
        patch.setattr(deployment_api, "PATIENCE", -1)
        with pytest.raises(FinetuneError, match="not ready"):
            deployment.deploy(load_params())
    name = deployment.deploy(load_params())["name"]
    assert list(cloud.deployed) == [name]
    assert cloud.deployed[name]["source"] == "ftjob-1:ftckpt-20"
    cloud.ends_as = "error"  # such a deployment never answers: another one is made
    with pytest.raises(FinetuneError, match=r"ended as 'error': The rank of the adapter is too large\."):
        deployment.deploy(load_params())
    assert len([call for call in cloud.calls if call.startswith("POST")]) == 2


def test_a_checkpoint_that_is_gone_is_no_deployment(cloud: Cloud) -> None:
    write_params(cloud, "nebius")
    record_at_nebius("another-name", 15)
    with pytest.raises(FinetuneError, match=r"no checkpoint another-name or of step 15; .* steps: 20, 10"):
        deployment.deploy(load_params())
    assert not cloud.deployed


def test_at_nebius_the_model_of_a_job_is_that_of_its_last_checkpoint(cloud: Cloud) -> None:
    write_params(cloud, "nebius")
    with connect(load_params().provider) as connection:
        job = connection.control.fine_tuning.jobs.list().data[0]
        assert job.fine_tuned_model is None
        assert wait_for_model(connection, job, print).fine_tuned_model == "model-of-step-20"
    listed = CliRunner().invoke(app, ["rescue", "list"]).output
    assert "model-of-step-20" in listed
    assert "answers only when it is deployed" in listed


def test_rescue_saves_weights_where_a_model_must_be_deployed_to_answer(cloud: Cloud) -> None:
    write_params(cloud, "nebius")
    done = CliRunner().invoke(app, ["rescue", "save", "model-of-step-20", "--usd", "1"])
    assert isinstance(done.exception, FinetuneError)
    folder = Path("data/rescued/model-of-step-20")
    assert f"are saved in {folder}, and its answers are not: At 'nebius', model-of-step-20" in done.exception.what
    assert done.exception.what.endswith(f"Its weights are in {folder / 'weights'}.")
    weights = {"weights": "files/file-20/content"}
    assert json.loads((folder / "weights/adapter_model.safetensors").read_bytes()) == weights
    assert json.loads((folder / "training.jsonl").read_bytes()) == example()
    assert json.loads((folder / "job.json").read_bytes())["id"] == "ftjob-1"
    write_json(DEPLOYMENT, {"provider": "nebius", "model": "model-of-step-20", "name": "its-name"})
    with connect(load_params().provider) as connection:
        saved = save_files(connection, *find(connection, "ftjob-1", print), print)
        assert saved.model == "model-of-step-20"
        assert name_to_ask(connection, load_params(), saved) == "its-name"


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


@pytest.mark.parametrize("provider", ["azure", "nebius"])
def test_a_redirect_is_no_deployment(provider: str, cloud: Cloud) -> None:
    write_params(cloud, provider, **(AZURE if provider == "azure" else {}))
    cloud.moved = True
    with pytest.raises(FinetuneError, match="answered 307"):
        deployment.deploy(load_params())
    assert len(cloud.calls) == 1


@pytest.mark.parametrize(
    ("provider", "odd", "says"),
    [
        ("azure", {"properties": 5}, "about a deployment .* is damaged: properties"),
        ("azure", {"properties": {"provisioningState": ["Succeeded"]}}, "damaged: properties.provisioningState"),
        ("nebius", {"status": {"name": "active"}}, "about a deployment is damaged: status"),
        ("nebius", ["active"], "is not ready after an hour"),
    ],
)
def test_wrong_types_are_no_deployment(
    provider: str, odd: Any, says: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(cloud, provider, **(AZURE if provider == "azure" else {}))
    record_at_nebius("model-of-step-10", 10)
    cloud.odd = odd
    monkeypatch.setattr(deployment_api, "PATIENCE", 0.2)
    with pytest.raises(FinetuneError, match=says):
        deployment.deploy(load_params())


def test_a_reason_of_a_wrong_type_is_left_out(cloud: Cloud) -> None:
    write_params(cloud, "nebius")
    record_at_nebius("model-of-step-10", 10)
    cloud.odd = {"status": "error", "status_reason": 5}
    with pytest.raises(FinetuneError, match=r"ended as 'error'\."):
        deployment.deploy(load_params())


def test_an_answer_that_is_no_object_removes_no_deployment(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(cloud, "nebius")
    write_json(DEPLOYMENT, {"provider": "nebius", "model": "m", "name": "its-name"})
    monkeypatch.setattr(Handler, "do_DELETE", lambda handler: handler.reply(200, "logged out"))
    with pytest.raises(FinetuneError, match="no JSON object"):
        deployment.remove(load_params())
    assert DEPLOYMENT.exists()


def test_a_provider_without_deployments_uses_the_models_own_name(cloud: Cloud) -> None:
    write_params(cloud, "openai")
    assert deployment.answering_name(load_params(), TUNED) == TUNED
    done = CliRunner().invoke(app, ["deploy", "--yes"])
    assert isinstance(done.exception, FinetuneError)
    assert "as soon as it is trained" in str(done.exception)


def bring(cloud: Cloud, model: str) -> None:
    """Point the deployment `prod` to a model, as in Azure's console, and let it be ready."""
    cloud.deployed["prod"] = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    cloud.looks, cloud.failures = 3, 0


def ask_prod(said: list[str], batch: bool = False) -> set[str]:
    prompts = [[{"role": "user", "content": str(number)}] for number in range(5)]
    params = load_params()
    with connect(params.provider) as connection:
        settings = params.evaluate.model_copy(update={"batch": batch})
        found = answer_all(connection, "prod", prompts, settings, 1, lambda *_: None, said.append)
    return {answer.text for answer in found}


def test_a_deployment_that_was_brought_to_another_model_is_asked_again(cloud: Cloud) -> None:
    write_params(cloud, "azure", **AZURE)
    said: list[str] = []
    bring(cloud, f"{BASE}.ft-m1")
    assert ask_prod(said) == {f"I am {BASE}.ft-m1"}
    assert ask_prod(said) == {f"I am {BASE}.ft-m1"}
    assert cloud.chats == 5  # what the deployment has is read at no cost
    assert not said
    bring(cloud, f"{BASE}.ft-m2")
    assert ask_prod(said) == {f"I am {BASE}.ft-m2"}
    assert cloud.chats == 5 + 5
    assert said[0].startswith(f"prod is another model than before ({BASE}.ft-m2 version 1; before: {BASE}.ft-m1")
    with open_answer_cache() as cache:
        assert [(one["model"], one["answers"]) for one in cache.groups()] == [(f"{BASE}.ft-m2 version 1", 5)]


def test_without_the_right_to_read_deployments_their_answers_say_which_model_it_is(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(cloud, "azure", **AZURE)
    said: list[str] = []
    bring(cloud, f"{BASE}.ft-m1")
    ask_prod(said)
    monkeypatch.setenv("AZURE_ARM_TOKEN", "expired")
    ask_prod(said)
    assert cloud.chats == 5 + 1
    assert len(said) == 1
    assert said[0].startswith("warning: it cannot be read which model prod has")
    assert "expired" not in said[0]


def test_a_deployment_that_has_another_model_than_the_record_is_refused(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the record would get the figures of the other model."""
    write_params(cloud, "azure", **AZURE)
    write_json(DEPLOYMENT, {"provider": "azure", "model": TUNED, "name": "prod"})
    bring(cloud, TUNED)
    assert deployment.answering_name(load_params(), TUNED) == "prod"
    bring(cloud, f"{BASE}.ft-m2")
    with pytest.raises(FinetuneError, match=r"The deployment prod has the model .*\.ft-m2 now, .* of .*\.ft-abc"):
        deployment.answering_name(load_params(), TUNED)
    assert not capsys.readouterr().err
    monkeypatch.setenv("AZURE_ARM_TOKEN", "expired")
    assert deployment.answering_name(load_params(), TUNED) == "prod"
    assert "warning: it was not checked whether the deployment prod still has" in capsys.readouterr().err


def test_answers_that_name_another_fine_tune_than_the_record_are_refused(cloud: Cloud) -> None:
    """Where deployments cannot be read. Answers that name only the base are taken."""
    write_params(cloud, "azure")
    for named, model, is_refused in ((BASE, "ft-m1", False), (None, "ft-m1", False), (None, "ft-m2", True)):
        cloud.named = named
        bring(cloud, f"{BASE}.{model}")
        with connect(load_params().provider) as connection:
            prompts = [[{"role": "user", "content": f"{named} {model}"}]]
            answer_all(connection, "prod", prompts, load_params().evaluate, 1, lambda *_: None, print)
            if is_refused:
                with pytest.raises(FinetuneError, match=r"has the model .*\.ft-m2 now, .* of .*\.ft-m1"):
                    deployment.refuse_other_answers(connection, "prod", f"{BASE}.ft-m1")
            else:
                deployment.refuse_other_answers(connection, "prod", f"{BASE}.ft-m1")


def test_a_batch_of_the_former_model_is_not_taken_for_that_of_the_deployment(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, which has no answers yet, a batch is found by its requests."""
    write_params(cloud, "azure", **AZURE)
    batches: dict[tuple[str, ...], dict[str, Any]] = {}

    def answer_batch(connection: Any, requests: dict[str, Any], *_: Any) -> dict[str, Any]:
        model = cloud.deployed["prod"]["properties"]["model"]["name"]
        answers = {key: completion(f"I am {model}") | {"model": BASE} for key in requests}
        return batches.setdefault(tuple(sorted(requests)), answers)

    monkeypatch.setattr(completions, "answer_batch", answer_batch)
    for model, machine in (("ft-m1", "a"), ("ft-m1", "b"), ("ft-m2", "c"), ("ft-m2", "a")):
        monkeypatch.setenv("FINETUNE_HOME", str(Path(machine).resolve()))
        bring(cloud, f"{BASE}.{model}")
        assert ask_prod([], batch=True) == {f"I am {BASE}.{model}"}
    assert cloud.chats == 0
    assert len(batches) == 3  # m1; m2; m2 on the machine that has counted one more time
