"""Test batches: they give the answers of chat, ask each question once despite kills, and are created once."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import PATIENCE
from faulty import FAULTS, Plan, Server, address, faulty, kill_after, kill_before
from tiny import make_tiny_base

from finetune.core.errors import FinetuneError
from finetune.core.profiles import PROFILES
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.provider import Provider
from finetune.engine import batch_runner
from finetune.engine.embedded import embedded
from finetune.provider import batch_api, create_once
from finetune.provider.answer_cache import open_answer_cache
from finetune.provider.batch_api import answer_batch
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection, connect

URL = "/v1/chat/completions"


def body_of(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "tiny", "messages": messages, "max_tokens": 4, "temperature": 0, **more}


def line_of(custom_id: str, **changes: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": body_of(custom_id), **changes}


def start_batch(client: openai.OpenAI, lines: list[Any], **more: Any) -> Any:
    """Create a batch of these lines, which are objects or texts."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file = client.files.create(file=("batch.jsonl", "".join(f"{text}\n" for text in texts).encode()), purpose="batch")
    settings: dict[str, Any] = {"input_file_id": file.id, "endpoint": URL, "completion_window": "24h"}
    return client.batches.create(**{**settings, **more})


def wait(client: openai.OpenAI, batch_id: str, ready: Callable[[Any], bool] | None = None) -> Any:
    """Return the batch when it has ended, or when it is ready."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        batch = client.batches.retrieve(batch_id)
        if ready(batch) if ready else batch.status in batch_api.ENDED:
            return batch
        assert batch.status not in batch_api.ENDED
        time.sleep(0.01)
    raise AssertionError(f"{batch_id} is still {batch.status}")


def begun(batch: Any) -> bool:
    return bool(0 < batch.request_counts.completed < batch.request_counts.total)


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """Return the lines of an output or error file by custom_id. Each custom_id must be there once."""
    lines = [json.loads(line) for line in client.files.content(file_id).content.splitlines()] if file_id else []
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def test_answers_are_those_of_chat(client: openai.OpenAI) -> None:
    bodies: dict[str, Any] = {str(n): body_of("x" * n) for n in range(1, 13)}
    bodies["logprobs"] = body_of("a", logprobs=True, top_logprobs=3)
    bodies["choices"] = body_of("b", n=3, temperature=1, seed=5)
    bodies["too long"] = body_of("c" * 2000)
    bodies["wrong"] = body_of("d", temperature=9)
    made = start_batch(client, [line_of(key, body=body) for key, body in bodies.items()], metadata={"a": "b"})
    assert (made.status, made.metadata, made.endpoint) == ("validating", {"a": "b"}, URL)
    batch = wait(client, made.id)
    assert (batch.status, batch.model, batch.errors) == ("completed", "tiny", None)
    assert batch.request_counts.model_dump() == {"total": 16, "completed": 14, "failed": 2}
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    output, errors = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert set(output) == set(bodies) - {"too long", "wrong"}
    for key, line in output.items():
        direct = client.chat.completions.create(**bodies[key]).to_dict()
        answer = line["response"]["body"]
        assert (line["response"]["status_code"], line["error"]) == (200, None)
        assert [answer[part] for part in ("model", "choices", "usage")] == [
            direct[part] for part in ("model", "choices", "usage")
        ]
    for key in ("too long", "wrong"):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**bodies[key])
        assert errors[key]["response"]["status_code"] == 400
        assert errors[key]["response"]["body"]["error"] == refused.value.body
    used = [line["response"]["body"]["usage"] for line in output.values()]
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in used)
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in used)
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    another = start_batch(client, [line_of("1")])
    assert [found.id for found in client.batches.list(limit=1)][:2] == [another.id, batch.id]
    assert wait(client, another.id).error_file_id is None


@pytest.mark.parametrize(
    ("lines", "code", "param", "line"),
    [
        (["{"], "invalid_json_line", None, 1),
        ([line_of("a"), "", "[1]"], "invalid_json_line", None, 3),
        ([line_of("a"), {**line_of("b"), "custom_id": 7}], "missing_required_parameter", "custom_id", 2),
        ([line_of("a"), line_of("a")], "duplicate_custom_id", "custom_id", 2),
        ([line_of("a"), line_of("b", headers={})], "unsupported_parameter", "headers", 2),
        ([line_of("a", method="GET")], "invalid_method", "method", 1),
        ([line_of("a", url="/v1/embeddings")], "invalid_url", "url", 1),
        ([line_of("a", body={})], "missing_required_parameter", "body.model", 1),
        ([line_of("a"), line_of("b", body=body_of("b", model="other"))], "mismatched_model", "body.model", 2),
        ([line_of("a", body=body_of("a", model="nobody"))], "model_not_found", "body.model", None),
        ([], "empty_file", "input_file_id", None),
        ([line_of(str(n)) for n in range(50_001)], "too_many_tasks", "input_file_id", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_line_fails_the_batch(
    client: openai.OpenAI, lines: list[Any], code: str, param: str | None, line: int | None
) -> None:
    batch = wait(client, start_batch(client, lines).id)
    assert (batch.status, batch.output_file_id) == ("failed", None)
    (error,) = batch.errors.data
    assert (error.code, error.param, error.line) == (code, param, line)


def test_an_invalid_batch_is_refused_at_once(client: openai.OpenAI) -> None:
    trains = client.files.create(file=("t.jsonl", b"{}\n"), purpose="fine-tune").id
    for wrong, param in (
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": trains}, "input_file_id"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3599}}, "output_expires_after"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            start_batch(client, [line_of("a")], **wrong)
        assert refused.value.param == param
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")


def test_a_cancelled_batch_keeps_its_answers(client: openai.OpenAI) -> None:
    batch = start_batch(client, [line_of(str(n)) for n in range(5000)])
    wait(client, batch.id, begun)
    assert client.batches.cancel(batch.id).status == "cancelling"
    ended = wait(client, batch.id)
    assert ended.status == "cancelled"
    assert begun(ended)
    assert len(results(client, ended.output_file_id)) == ended.request_counts.completed
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.batches.cancel(batch.id)


def results_path(home: Path, batch_id: str) -> Path:
    return home / "batches" / f"{batch_id}.jsonl"


SERVE = """
import sys
from finetune.engine.embedded import embedded
with embedded() as address:
    print(address.base_url, address.key, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_after_a_kill_another_server_asks_only_for_the_rest(client: openai.OpenAI, home: Path) -> None:
    """Two servers share a home: while the first runs, the second does not work on the batch."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVE], env=environment, **pipes) as server:
        assert server.stdout
        base_url, key = server.stdout.readline().split()
        with openai.OpenAI(base_url=base_url, api_key=key) as first:
            batch = start_batch(first, [line_of(str(n)) for n in range(200)])
            wait(client, batch.id, begun)
        # While it stands still it has the lock, so that the other one does not write to the file that is changed here.
        server.send_signal(signal.SIGSTOP)
        path = results_path(home, batch.id)
        lines = path.read_bytes().splitlines(keepends=True)
        known = [json.loads(line)["id"] for line in lines if line.endswith(b"\n")]
        with open(path, "ab") as file:
            file.write(b'{"id": "batch_req_')
        server.send_signal(signal.SIGKILL)
    ended = wait(client, batch.id)
    assert (ended.status, ended.request_counts.completed, ended.request_counts.failed) == ("completed", 200, 0)
    output = results(client, ended.output_file_id)
    assert len(output) == 200
    assert len(known) > 0
    assert set(known) <= {line["id"] for line in output.values()}
    assert not path.exists()


def test_the_end_of_a_server_loses_no_answer(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_runner, "IN_FLIGHT", 2)
    with embedded() as ended_early, openai.OpenAI(base_url=ended_early.base_url, api_key=ended_early.key) as first:
        batch = start_batch(first, [line_of(str(n)) for n in range(200)])
        seen = wait(first, batch.id, begun).request_counts.completed
    known = [json.loads(line)["id"] for line in results_path(home, batch.id).read_bytes().splitlines()]
    assert seen <= len(known) < 200
    monkeypatch.undo()
    ended = wait(client, batch.id)
    assert ended.status == "completed"
    assert set(known) <= {line["id"] for line in results(client, ended.output_file_id).values()}


# The project's side


@pytest.fixture(scope="module")
def provider(client: openai.OpenAI) -> Iterator[Server]:
    """Start a server in front of the engine that makes the planned calls fail."""
    with faulty(str(client.base_url).removesuffix("/v1/")) as server:
        yield server


@pytest.fixture
def connection(client: openai.OpenAI, provider: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """Connect as the stages do, with shorter waiting times."""
    monkeypatch.setattr(create_once, "PAUSES", (0, 0.1, 0.2))
    monkeypatch.setattr(create_once, "LIST_LAG", 0.5)
    monkeypatch.setitem(PROFILES, "local", dataclasses.replace(PROFILES["local"], poll_seconds=(0.02, 0.1)))
    monkeypatch.setenv("FINETUNE_ENGINE_KEY", client.api_key)
    provider.plan = Plan()
    with connect(Provider(name="local", base_url=address(provider))) as found:
        yield found


def requests_of(name: str, number: int) -> dict[str, dict[str, Any]]:
    """Return requests that no other test has, by their hash."""
    bodies = [body_of(f"{name} {n}") for n in range(number)]
    return {hashlib.sha256(json.dumps(body).encode()).hexdigest(): body for body in bodies}


def quiet(*_: Any) -> None:
    """Report nothing."""


def made_of(client: openai.OpenAI, requests: dict[str, Any]) -> list[Any]:
    """Return the batches of these requests or of some of them. No two files may have the same content."""
    uploaded = {f.id: f.filename for f in client.files.list(purpose="batch") if f.filename != "batch.jsonl"}
    assert len(set(uploaded.values())) == len(uploaded)
    keys = {
        file: {json.loads(line)["custom_id"] for line in client.files.content(file).content.splitlines()}
        for file in uploaded
    }
    return [batch for batch in client.batches.list(limit=100) if keys.get(batch.input_file_id, {""}) <= set(requests)]


def test_the_same_requests_are_one_batch(client: openai.OpenAI, connection: Connection) -> None:
    requests = requests_of("twice", 20)
    refused = next(iter(requests))
    requests[refused]["temperature"] = 9
    shown: list[tuple[int, int, str]] = []
    said: list[str] = []
    first = answer_batch(connection, requests, said.append, lambda *step: shown.append(step))
    again = answer_batch(connection, dict(reversed(requests.items())), said.append, quiet)
    assert first == again
    assert set(first) == set(requests)
    (batch,) = made_of(client, requests)
    assert list(batch.metadata) == ["finetune_batch"]
    assert [text.split(" ", 2)[2] for text in said] == [
        "created with 20 requests.",
        "(completed) already has 20 answers; using them. Nothing is paid.",
    ]
    assert {(total, message) for _, total, message in shown} <= {(20, "answers in the batch")}
    for key, body in requests.items():
        if key == refused:
            assert "'temperature' must be" in first[key]["error"]["message"]
        else:
            assert first[key]["choices"] == client.chat.completions.create(**body).to_dict()["choices"]


@pytest.mark.parametrize(
    "fault", ["429", "500", "cut-before", "cut-after", "broken-json", "web-page", "307", "200-error", "400-after"]
)
@pytest.mark.parametrize("call", ["POST /v1/files", "POST /v1/batches"])
def test_there_is_one_batch_after_any_fault(
    client: openai.OpenAI, connection: Connection, provider: Server, call: str, fault: str
) -> None:
    requests = requests_of(f"{call} {fault}", 3)
    provider.plan = Plan(call, 0, FAULTS[fault])
    try:
        answers = answer_batch(connection, requests, quiet, quiet)
    except (openai.OpenAIError, FinetuneError):
        assert fault not in ("cut-after", "broken-json", "web-page")  # in these cases the batch exists and is found
        answers = answer_batch(connection, requests, quiet, quiet)
    assert provider.plan.times == 0
    assert all(answer["choices"] for answer in answers.values())
    assert len(made_of(client, requests)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [b'{"custom_id"', b"[]", b"{}", b'{"custom_id":{}}', b'{"custom_id":"a","response":7}']
)
def test_a_line_that_is_no_result_is_named_and_nothing_is_asked_again(
    client: openai.OpenAI, connection: Connection, provider: Server, line: bytes
) -> None:
    requests = requests_of(str(line), 3)
    provider.plan = Plan(rewrite=lambda call, content: content + line + b"\n" if call.endswith("/content") else content)
    for _ in range(2):
        with pytest.raises(FinetuneError, match=r"Line 4 of .* of batch .*, is no result") as raised:
            answer_batch(connection, requests, quiet, quiet)
        assert "nothing is asked again" in str(raised.value)
    provider.plan = Plan()
    assert all(answer["choices"] for answer in answer_batch(connection, requests, quiet, quiet).values())
    assert len(made_of(client, requests)) == 1


CLIENT = """
import json, sys
from finetune.core.sections.provider import Provider
from finetune.provider.batch_api import answer_batch
from finetune.provider.connect import connect
with connect(Provider(name="local", base_url=sys.argv[1])) as connection:
    answer_batch(connection, json.load(sys.stdin), print, lambda *step: None)
"""


@pytest.mark.parametrize(
    ("fault", "call"),
    [
        (kill_after, "POST /v1/files"),
        (kill_before, "POST /v1/batches"),
        (kill_after, "POST /v1/batches"),
        (kill_before, r"GET /v1/batches/\w+"),
    ],
)
def test_a_killed_client_finds_its_batch_again(
    client: openai.OpenAI, connection: Connection, provider: Server, fault: Any, call: str
) -> None:
    requests = requests_of(f"{fault} {call}", 10)
    provider.plan = Plan(call, 0, fault)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CLIENT, address(provider)]
    provider.client = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True)
    provider.client.communicate(json.dumps(requests), timeout=60)
    assert provider.client.returncode == -signal.SIGKILL
    answers = answer_batch(connection, requests, quiet, quiet)
    assert all(answer["choices"] for answer in answers.values())
    assert len(made_of(client, requests)) == 1


def test_ctrl_c_says_how_to_get_the_answers(client: openai.OpenAI, connection: Connection) -> None:
    requests = requests_of("interrupted", 40)
    said: list[str] = []

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_batch(connection, requests, said.append, interrupt)
    (batch,) = made_of(client, requests)
    assert said[-1] == f"\nBatch {batch.id} keeps running. Get its answers with: dvc repro"
    assert len(answer_batch(connection, requests, said.append, quiet)) == 40
    assert said[-1].startswith(f"Batch {batch.id}")


@contextmanager
def cancelling(home: Path, answers: int) -> Iterator[None]:
    """Cancel each batch at once when it has this many answers. A request from here would cancel it later."""
    with closing(sqlite3.connect(home / "engine.db")) as db:
        db.execute(
            "CREATE TRIGGER cancelling AFTER UPDATE OF completed ON batches"
            f" WHEN NEW.completed >= {answers} AND NEW.status = 'in_progress'"
            " BEGIN UPDATE batches SET status = 'cancelling' WHERE id = NEW.id; END"
        )
        try:
            yield
        finally:
            db.execute("DROP TRIGGER cancelling")


@pytest.mark.slow
@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_unanswered_requests_are_sent_in_another_batch(
    client: openai.OpenAI,
    home: Path,
    connection: Connection,
    provider: Server,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    """The engine's batches never expire, so a cancelled batch is shown as expired."""
    monkeypatch.setattr(batch_runner, "IN_FLIGHT", 8)
    requests = requests_of(status, 60)
    provider.plan = Plan(
        rewrite=lambda call, content: content.replace(b'"status":"cancelled"', f'"status":"{status}"'.encode())
    )
    with cancelling(home, answers=5):
        if status == "cancelled":
            with pytest.raises(FinetuneError, match="was cancelled"):
                answer_batch(connection, requests, quiet, quiet)
        else:
            partly = answer_batch(connection, requests, quiet, quiet)
            unanswered = [answer for answer in partly.values() if "error" in answer]
            assert 0 < len(unanswered) < len(partly) == 60
            assert "(expired) has no answer" in unanswered[0]["error"]["message"]
    whole = answer_batch(connection, requests, quiet, quiet)
    assert set(whole) == set(requests)
    assert all(answer["choices"] for answer in whole.values())
    second, first = made_of(client, requests)
    assert 0 < first.request_counts.completed < 60
    assert second.request_counts.total == 60 - first.request_counts.completed


@pytest.mark.slow
def test_a_failed_batch_says_why_and_is_created_again(client: openai.OpenAI, connection: Connection) -> None:
    requests = requests_of("failed", 2)
    for body in requests.values():
        body["model"] = "nobody"
    for tries in (1, 2):
        with pytest.raises(FinetuneError, match="`nobody` does not exist") as raised:
            answer_batch(connection, requests, quiet, quiet)
        assert "evaluate.batch" in raised.value.remedy
        assert len(made_of(client, requests)) == tries


@pytest.mark.slow
def test_many_requests_are_several_batches(
    client: openai.OpenAI, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "MAX_REQUESTS", 10)
    requests = requests_of("many", 24)
    shown: list[tuple[int, int, str]] = []
    answers = answer_batch(connection, requests, quiet, lambda *step: shown.append(step))
    assert len(answers) == 24
    assert [batch.request_counts.total for batch in made_of(client, requests)] == [4, 10, 10]
    assert [done for done, _, _ in shown] == sorted(done for done, _, _ in shown)
    assert {total for _, total, _ in shown} == {24}
    size = len(next(iter(next(batch_api.parts(URL, requests)).values())))
    monkeypatch.setattr(batch_api, "MAX_BYTES", 3 * size + 10)
    assert [len(lines) for lines in batch_api.parts(URL, requests)] == [3] * 8


def test_a_provider_without_batches_is_refused(connection: Connection) -> None:
    nebius = dataclasses.replace(connection, profile=PROFILES["nebius"])
    with pytest.raises(FinetuneError, match="'nebius' has no Batch API") as raised:
        answer_batch(nebius, requests_of("nobody", 1), quiet, quiet)
    assert raised.value.remedy == "Set evaluate.batch to false in params.yaml."


def test_what_is_asked_again_takes_no_former_batch(client: openai.OpenAI, connection: Connection, home: Path) -> None:
    """The base gets other weights under its name; then --fresh asks all again. An interrupted run finds its batch."""
    prompts = [[{"role": "user", "content": f"again {n}"}] for n in range(4)]
    settings = Evaluate(max_tokens=3, temperature=0.0, concurrency=4, batch=True)

    def ask(fresh: bool = False) -> tuple[list[str], list[str]]:
        said: list[str] = []
        found = dataclasses.replace(connection, fresh=fresh, answering={}, deployed={}, renewed=set())
        answers = answer_all(found, "swapped", prompts, settings, 1, quiet, said.append)
        return [answer.text for answer in answers], said

    def batches() -> int:
        return sum(batch.model == "swapped" for batch in client.batches.list(limit=100))

    make_tiny_base(home / "bases" / "swapped")
    first, _ = ask()
    assert (ask(), batches()) == ((first, []), 1)
    shutil.rmtree(home / "bases" / "swapped")
    make_tiny_base(home / "bases" / "swapped", width=32)
    second, said = ask()
    assert second != first
    assert said[0].startswith("swapped is another model than before")
    assert batches() == 2
    assert ask(fresh=True)[0] == second
    assert batches() == 3
    with open_answer_cache() as cache:
        cache.db.execute("DELETE FROM completions")  # as if the run had stopped before it kept them
    assert ask()[0] == second
    assert batches() == 3
    with open_answer_cache() as cache:
        assert cache.clear("swapped") == 4  # a wish to ask again
    assert ask()[0] == second
    assert batches() == 4


def test_a_former_batch_of_other_weights_is_not_taken_by_another_machine(
    client: openai.OpenAI, connection: Connection, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[{"role": "user", "content": f"elsewhere {n}"}] for n in range(4)]
    settings = Evaluate(max_tokens=3, temperature=0.0, concurrency=4, batch=True)

    def ask() -> list[str]:
        found = dataclasses.replace(connection, answering={}, deployed={}, renewed=set())
        return [answer.text for answer in answer_all(found, "moved", prompts, settings, 1, quiet, quiet)]

    make_tiny_base(home / "bases" / "moved")
    first = ask()
    shutil.rmtree(home / "bases" / "moved")
    make_tiny_base(home / "bases" / "moved", width=32)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    assert ask() != first


def test_a_cancelled_batch_stops_in_the_midst_of_its_answers(client: openai.OpenAI) -> None:
    """Its answers would take minutes."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1000, "temperature": 0}
    body |= {"n": 8, "logit_bias": {"0": -100}}
    lines = [{"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(500)]
    batch = start_batch(client, lines)
    while client.batches.retrieve(batch.id).status == "validating":
        time.sleep(0.05)
    client.batches.cancel(batch.id)
    began = time.monotonic()
    assert wait(client, batch.id).status == "cancelled"
    client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}], max_tokens=2)
    assert time.monotonic() - began < 10


def test_a_batch_of_completions_has_the_answers_of_single_requests(client: openai.OpenAI) -> None:
    bodies: list[dict[str, Any]] = [
        {"model": "tiny", "prompt": ["red", "größer"], "max_tokens": 4, "temperature": 0, "n": 2, "logprobs": 1},
        {"model": "tiny", "prompt": [40, 41], "max_tokens": 4, "temperature": 0, "echo": True},
        {"model": "tiny", "prompt": "a", "stream": True},
    ]
    url = "/v1/completions"
    lines = [{"custom_id": str(n), "method": "POST", "url": url, "body": body} for n, body in enumerate(bodies)]
    ended = wait(client, start_batch(client, lines, endpoint=url).id)
    assert (ended.endpoint, ended.request_counts.completed, ended.request_counts.failed) == (url, 2, 1)
    found = {}
    for line in client.files.content(ended.output_file_id).text.splitlines():
        result = json.loads(line)
        found[result["custom_id"]] = result["response"]["body"]
    for number, body in enumerate(bodies[:2]):
        single = client.completions.create(**body).to_dict()
        assert found[str(number)]["choices"] == single["choices"]
        assert found[str(number)]["usage"] == single["usage"]
    assert "cannot be streamed" in client.files.content(ended.error_file_id).text
