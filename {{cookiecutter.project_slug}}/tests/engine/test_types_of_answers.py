"""Call every route with OpenAI's package, and check the raw answers against its types, strictly.

The package itself is lenient: it turns "1" into 1, and takes an unknown status as it is. Here nothing may be missing,
of another type or outside an enumeration, and every refusal has the four keys of the error envelope.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, training_lines, wait
from openai.types import Model
from pydantic import BaseModel, ConfigDict

from finetune.engine.api.app import ROUTES
from finetune.engine.embedded import embedded

pytestmark = pytest.mark.usefixtures("forked_workers")

MESSAGES: Any = [{"role": "user", "content": "1: paint it blue"}]
EXPIRES: Any = {"anchor": "created_at", "seconds": 3600}


class Detail(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    message: str
    type: str
    param: str | None
    code: str | None


class Envelope(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    error: Detail


@dataclass
class Driver:
    """A client whose answers are checked as they come. `called` has the routes that were called."""

    client: openai.OpenAI
    called: set[tuple[str, str]] = field(default_factory=set)

    def call(self, call: Callable[..., Any]) -> Any:
        """Return the answer of a call of the package, given as a method of `with_raw_response`."""
        raw = call()
        parsed = raw.parse()
        self.note(raw.http_response)
        if isinstance(parsed, BaseModel):
            type(parsed).model_validate_json(raw.http_response.content, strict=True)
        return parsed

    def refused(self, call: Callable[..., Any], status: int) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            call()
        self.note(caught.value.response)
        assert caught.value.status_code == status, caught.value.response.text
        Envelope.model_validate_json(caught.value.response.content)

    def note(self, response: Any) -> None:
        assert response.headers["x-request-id"].startswith("req_")
        path = response.request.url.path
        for route in ROUTES:
            if route.path_regex.match(path) and response.request.method in (route.methods or ()):
                self.called.add((response.request.method, route.path))
                return


@pytest.fixture
def driver(home: Path) -> Iterator[Driver]:
    with (
        embedded() as address,
        openai.OpenAI(
            base_url=address.base_url, api_key=address.key, _strict_response_validation=True, max_retries=0
        ) as client,
    ):
        yield Driver(client)


def test_every_answer_fits_the_types_of_openais_package(driver: Driver, home: Path) -> None:
    client: Any = driver.client
    call = driver.call
    files, uploads, jobs = (one.with_raw_response for one in (client.files, client.uploads, client.fine_tuning.jobs))
    # Files and uploads
    training = call(lambda: files.create(file=("train.jsonl", training_lines(24)), purpose="fine-tune"))
    for purpose in ("fine-tune", "batch", "assistants", "vision", "user_data"):
        call(lambda p=purpose: files.create(file=("a", b"{}"), purpose=p, expires_after=EXPIRES))
    call(lambda: files.list(limit=3, order="asc"))
    call(lambda: files.list(purpose="fine-tune"))
    call(lambda: files.retrieve(training.id))
    call(lambda: files.content(training.id))
    upload = call(
        lambda: uploads.create(
            filename="a", purpose="user_data", bytes=1, mime_type="text/plain", expires_after=EXPIRES
        )
    )
    part = call(lambda: client.uploads.parts.with_raw_response.create(upload.id, data=b"a"))
    call(lambda: uploads.complete(upload.id, part_ids=[part.id]))
    other = call(lambda: uploads.create(filename="a", purpose="batch", bytes=1, mime_type="text/plain"))
    call(lambda: uploads.cancel(other.id))
    # Jobs
    made = call(
        lambda: jobs.create(
            model="tiny",
            training_file=training.id,
            validation_file=training.id,
            suffix="mine",
            seed=1,
            metadata={"a": "b"},
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
            integrations=[],
        )
    )
    call(lambda: jobs.retrieve(made.id))
    stopped = start_job(client, epochs=50)
    call(lambda: jobs.cancel(stopped.id))
    bad = client.files.create(file=("bad.jsonl", training_lines(9)), purpose="fine-tune")
    failed = start_job(client, training_file=bad.id)
    job = wait(client, made.id)
    assert wait(client, failed.id).status == "failed"
    for one in (made, stopped, failed):
        call(lambda one=one: jobs.retrieve(one.id))
        call(lambda one=one: jobs.list_events(one.id, limit=100))
    call(lambda: jobs.list(limit=2, metadata={"a": "b"}))
    call(lambda: client.fine_tuning.jobs.checkpoints.with_raw_response.list(job.id))
    pausing = start_job(client, epochs=50)
    while client.fine_tuning.jobs.retrieve(pausing.id).status == "validating_files":
        pass
    # The one known difference: OpenAI's documentation answers `paused`, which its package's types do not have.
    loose = client.with_options()
    loose._strict_response_validation = False
    for action in ("pause", "resume"):
        raw = getattr(loose.fine_tuning.jobs.with_raw_response, action)(pausing.id)
        driver.note(raw.http_response)
        text = raw.http_response.text.replace('"status":"paused"', '"status":"queued"')
        type(made).model_validate_json(text, strict=True)
    client.fine_tuning.jobs.cancel(pausing.id)
    # Models and permissions
    models = client.models.with_raw_response
    call(lambda: models.list())
    for name in ("tiny", job.fine_tuned_model):
        call(lambda name=name: models.retrieve(name))
    permissions = client.fine_tuning.checkpoints.permissions.with_raw_response
    permission = call(lambda: permissions.create(job.fine_tuned_model, project_ids=["proj_a"])).data[0]
    call(lambda: permissions.list(job.fine_tuned_model))
    call(lambda: permissions.retrieve(job.fine_tuned_model))
    call(lambda: permissions.delete(permission.id, fine_tuned_model_checkpoint=job.fine_tuned_model))
    # Answers
    chat = client.chat.completions.with_raw_response
    call(lambda: chat.create(model="tiny", messages=MESSAGES, max_tokens=2, logprobs=True, top_logprobs=2, n=2))
    call(lambda: client.completions.with_raw_response.create(model="tiny", prompt=["a", "b"], max_tokens=2, logprobs=2))
    batches = client.batches.with_raw_response
    line: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    line |= {"body": {"model": "tiny", "messages": MESSAGES, "max_tokens": 2}}
    for content in (json.dumps(line).encode(), b"{}"):
        requests = client.files.create(file=("b.jsonl", content), purpose="batch")
        batch = call(
            lambda r=requests: batches.create(
                completion_window="24h", endpoint="/v1/chat/completions", input_file_id=r.id, metadata={"a": "b"}
            )
        )
        while call(lambda b=batch: batches.retrieve(b.id)).status not in ("completed", "failed"):
            pass
    call(lambda: batches.list(limit=1))
    long = client.files.create(
        file=("b.jsonl", "\n".join(json.dumps({**line, "custom_id": str(n)}) for n in range(500)).encode()),
        purpose="batch",
    )
    batch = client.batches.create(completion_window="24h", endpoint="/v1/chat/completions", input_file_id=long.id)
    call(lambda: batches.cancel(batch.id))
    adapter = {"lora_name": "ours", "lora_path": str(next((home / "models").iterdir()))}
    raw = client._client.request(
        "POST", f"{client.base_url}load_lora_adapter", json=adapter, headers=client.auth_headers
    )
    Model.model_validate_json(raw.text, strict=True)
    driver.note(raw)
    # What ends objects
    call(lambda: models.delete(job.fine_tuned_model))
    call(lambda: files.delete(training.id))
    address = str(client.base_url).removesuffix("/v1/")
    for method, path, body in (("POST", "/tokenize", {"model": "tiny", "prompt": "a"}), ("GET", "/health", None)):
        raw = client._client.request(method, address + path, json=body, headers=client.auth_headers)
        assert raw.status_code == 200
        driver.note(raw)
    methods = {(method, route.path) for route in ROUTES for method in route.methods or () if method != "HEAD"}
    assert methods - driver.called == set()


def test_every_refusal_fits_the_envelope(driver: Driver) -> None:
    """Each route refuses an object that does not exist, an unknown parameter, a broken body and a wrong key."""
    client: Any = driver.client
    bodies: list[Any] = [{"colour": 1}, [], {"model": True}]
    for route in ROUTES:
        path = re.sub(r"\{[^}]*\}", "none", route.path)
        if path == "/health":
            continue
        address = str(client.base_url).removesuffix("/v1/") + path
        for method in sorted(set(route.methods or ()) - {"HEAD"}):
            call = getattr(client, method.lower())
            driver.refused(lambda c=call, a=address: c(f"{a}?colour=1", cast_to=object), 400)
            if method == "POST" and not path.endswith(("/cancel", "/pause", "/resume", "/files", "/parts")):
                for body in bodies:
                    driver.refused(lambda c=call, a=address, b=body: c(a, cast_to=object, body=b), 400)
            if "none" in path and method != "POST":
                driver.refused(lambda c=call, a=address: c(a, cast_to=object), 404)
            keyless = getattr(client.with_options(api_key="wrong"), method.lower())
            driver.refused(lambda c=keyless, a=address: c(a, cast_to=object), 401)
