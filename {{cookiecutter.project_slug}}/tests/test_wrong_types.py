"""Whatever types the fields of the provider's answers have: no traceback, and no second job."""

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from finetune.core import damage
from finetune.core.disk import sha256_of, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import FILES, MODEL, PREPARED, PREPARED_REPORT, VALIDATION_REPORT
from finetune.core.profiles import PROFILES
from finetune.provider import create_once, remote_files, twin_jobs
from finetune.provider.answer_parser import Answer, parse_answer
from finetune.provider.batch_api import answer_batch
from finetune.provider.connect import connect
from finetune.stages import train

PARAMS = """
data: {file: raw.csv, split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: compatible, base_url: URL}
train: {base: gpt-4o-mini, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: 7}
evaluate: {max_tokens: 6, temperature: 0.0, concurrency: 8}
"""
NOW = int(time.time())
TUNED = "ft:gpt-4o-mini:acme::abc"
# The objects as OpenAI's reference prints them.
JOB: dict[str, Any] = {
    "object": "fine_tuning.job",
    "id": "ftjob-1",
    "model": "gpt-4o-mini",
    "created_at": NOW,
    "finished_at": NOW,
    "fine_tuned_model": TUNED,
    "organization_id": "org-123",
    "result_files": ["file-2"],
    "status": "succeeded",
    "validation_file": None,
    "training_file": "file-1",
    "hyperparameters": {"n_epochs": 4, "batch_size": 1, "learning_rate_multiplier": 1.0},
    "trained_tokens": 5768,
    "error": {},
    "integrations": [],
    "seed": 7,
    "estimated_finish": 0,
    "method": {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 1, "learning_rate_multiplier": 1.0}},
    },
}
EVENT = {
    "object": "fine_tuning.job.event",
    "id": "ftevent-1",
    "created_at": NOW,
    "level": "info",
    "message": "Step 10/10: training loss=0.40",
    "data": {"step": 10, "total_steps": 10, "train_loss": 0.4, "valid_loss": 0.5},
    "type": "metrics",
}
CHECKPOINT = {
    "object": "fine_tuning.job.checkpoint",
    "id": "ftckpt-1",
    "created_at": NOW,
    "fine_tuned_model_checkpoint": TUNED,
    "metrics": {"full_valid_loss": 0.567, "full_valid_mean_token_accuracy": 0.874},
    "fine_tuning_job_id": "ftjob-1",
    "step_number": 10,
}
FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": 120,
    "created_at": NOW,
    "expires_at": None,
    "filename": "mydata.jsonl",
    "purpose": "fine-tune",
    "status": "processed",
}
BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file-answers",
    "error_file_id": None,
    "created_at": NOW,
    "completed_at": NOW,
    "request_counts": {"total": 1, "completed": 1, "failed": 0},
}
UPLOAD = {
    "id": "upload_1",
    "object": "upload",
    "bytes": 120,
    "created_at": NOW,
    "filename": "mydata.jsonl",
    "purpose": "fine-tune",
    "status": "pending",
    "expires_at": NOW + 3600,
}
PART = {"id": "part_1", "object": "upload.part", "created_at": NOW, "upload_id": "upload_1"}
COMPLETION = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "b"}, "finish_reason": "stop"}]}
QUESTIONS: dict[str, dict[str, Any]] = {"q1": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "a"}]}}
RESULTS = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.9,0.5,,\n10,0.4,0.8,0.5,0.7\n"
OBJECTS: dict[str, Any] = {"job": JOB, "event": EVENT, "checkpoint": CHECKPOINT, "file": FILE}
NESTED = [("job", "hyperparameters", "n_epochs"), ("job", "method", "supervised"), ("job", "error", "message")]
NESTED += [("event", "data", name) for name in EVENT["data"]]  # type: ignore[attr-defined]
NESTED += [("checkpoint", "metrics", "full_valid_loss")]
PLACES = sorted([*((name, key) for name, one in OBJECTS.items() for key in one if key != "object"), *NESTED])
VALUES = st.one_of(
    st.sampled_from([None, True, 0, -1, 79.0, 10**400, float("nan"), float("inf")]),
    st.sampled_from(["", "abc", "\x00", "3"]),
    st.sampled_from([[], [1], [None], {}, {"a": 1}, [{"id": "a"}]]),
)


class Fake(ThreadingHTTPServer):
    """A provider whose jobs succeed at once. The first answers about `place` have a changed value."""

    daemon_threads = True
    place: tuple[str, ...] = ()
    value: Any = None
    times = 0
    jobs: list[dict[str, Any]]
    batches: list[dict[str, Any]]
    uploads: list[dict[str, Any]]
    files: list[dict[str, Any]]

    def changed(self, name: str, found: dict[str, Any]) -> dict[str, Any]:
        """Return an object as this provider shows it."""
        if not self.place or self.place[0] != name or self.times == 0:
            return found
        self.times -= 1
        found = json.loads(json.dumps(found))
        *parents, key = self.place[1:]
        inner = found
        for parent in parents:
            inner = inner[parent]
        inner[key] = self.value
        return found

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        def page(name: str, rows: list[Any]) -> dict[str, Any]:
            found = {"object": "list", "data": [self.changed(name, row) for row in rows], "has_more": False}
            return self.changed("list", found)

        match path.removeprefix("/v1/").split("/"):
            case ["models"]:
                return 200, page("", [{"id": TUNED, "object": "model", "created": NOW, "owned_by": "acme"}])
            case ["models", _]:
                return 200, {"id": TUNED, "object": "model", "created": NOW, "owned_by": "acme"}
            case ["files", "file-answers", "content"]:
                line = {"custom_id": "q1", "response": {"status_code": 200, "body": COMPLETION}}
                return 200, json.dumps(line).encode()
            case ["files", _, "content"]:
                return 200, RESULTS
            case ["files"] if method == "POST":
                return 200, self.changed("file", FILE)
            case ["files"]:
                return 200, page("file", [FILE, *self.files])
            case ["files", name]:
                return 200, self.changed("file", FILE | {"id": name})
            case ["uploads"]:
                self.uploads.append(UPLOAD | json.loads(body))
                return 200, self.changed("upload", self.uploads[-1])
            case ["uploads", _, "parts"]:
                return 200, self.changed("part", PART)
            case ["uploads", _, "complete"]:
                known = self.uploads[-1]
                self.files.append(FILE | {"id": "file-9", "filename": known["filename"], "bytes": known["bytes"]})
                return 200, self.changed("completed", known | {"status": "completed", "file": self.files[-1]})
            case ["batches"] if method == "POST":
                self.batches.append(BATCH | {"metadata": json.loads(body)["metadata"]})
                return 200, self.changed("batch", self.batches[-1])
            case ["batches"]:
                return 200, page("batch", self.batches)
            case ["batches", _]:
                return 200, self.changed("batch", self.batches[-1])
            case ["fine_tuning", "jobs"] if method == "POST":
                request = json.loads(body)
                self.jobs.append(JOB | {"id": f"ftjob-{len(self.jobs) + 1}", "metadata": request["metadata"]})
                return 200, self.changed("job", self.jobs[-1])
            case ["fine_tuning", "jobs"]:
                return 200, page("job", self.jobs[::-1])
            case ["fine_tuning", "jobs", _, "events"]:
                return 200, page("event", [EVENT])
            case ["fine_tuning", "jobs", _, "checkpoints"]:
                return 200, page("checkpoint", [CHECKPOINT])
            case ["fine_tuning", "jobs", name] if found := [job for job in self.jobs if job["id"] == name]:
                return 200, self.changed("job", found[0])
        return 404, {"error": {"message": f"no {path}", "type": "invalid_request_error", "param": None, "code": None}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Fake

    def handle_call(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, found = self.server.answer(self.command, urlsplit(self.path).path, body)
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = handle_call

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class SkippedTime:
    """The module `time` without its pauses: the clock moves by them."""

    skipped = 0.0

    def sleep(self, seconds: float) -> None:
        self.skipped += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def time(self) -> float:
        return time.time() + self.skipped


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    """A project in the working folder, and its provider."""
    folder = tmp_path_factory.mktemp("project")
    with Fake(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        patch.chdir(folder)
        patch.setenv("FINETUNE_API_KEY", "sk-test")
        patch.setenv("FINETUNE_HOME", str(folder / "home"))
        skipped = SkippedTime()
        patch.setattr(create_once, "time", skipped)
        patch.setattr(twin_jobs, "time", skipped)
        quick = dataclasses.replace(PROFILES["compatible"], poll_seconds=(0.001, 0.01), batches=True)
        patch.setitem(PROFILES, "compatible", quick)
        address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        Path("params.yaml").write_text(PARAMS.replace("URL", address), encoding="utf-8")
        PREPARED.mkdir(parents=True)
        line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
        (PREPARED / "train.jsonl").write_text((json.dumps(line) + "\n") * 10, encoding="utf-8")
        (PREPARED / "valid.jsonl").write_text("", encoding="utf-8")
        write_json(VALIDATION_REPORT, {"train_tokens_per_epoch": 100, "auto": {"n_epochs": 1}})
        write_json(PREPARED_REPORT, {"prompt": "x"})
        write_json(FILES, {"train": {"id": "file-1", "sha256": sha256_of(PREPARED / "train.jsonl")}})
        begin(server)
        yield server
        server.shutdown()


def run(provider: Fake, place: tuple[str, ...] = (), value: Any = None, times: int = 3) -> FinetuneError | None:
    """Train, and return the error that the command would print. Any other exception fails the test."""
    provider.place, provider.value, provider.times = place, value, times
    MODEL.unlink(missing_ok=True)
    damage.warn_once.cache_clear()
    try:
        train.run(load_params())
    except FinetuneError as error:
        return error
    return None


def begin(provider: Fake) -> None:
    """Forget all that was made."""
    provider.jobs, provider.batches, provider.uploads, provider.files = [], [], [], []
    shutil.rmtree("home", ignore_errors=True)
    shutil.rmtree("models/weights", ignore_errors=True)


@pytest.mark.slow
@settings(
    max_examples=16,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_no_type_of_a_field_makes_a_second_job(provider: Fake, place: tuple[str, ...], value: Any) -> None:
    begin(provider)
    run(provider, place, value)
    assert len(provider.jobs) <= 1
    assert run(provider) is None
    assert len(provider.jobs) == 1
    assert json.loads(MODEL.read_text(encoding="utf-8"))["job"] == "ftjob-1"


EXTRAS: list[tuple[tuple[str, ...], Any]] = [
    (("job", "trained_tokens"), {}),
    (("job", "trained_tokens"), -5),
    (("job", "hyperparameters"), "auto"),
    (("job", "created_at"), "2026-01-01"),
    (("job", "finished_at"), 1_700_000_000_000),
    (("job", "result_files"), "file-2"),
    (("job", "method"), ["supervised"]),
    (("job", "error"), "none"),
    (("event", "message"), {}),
    (("event", "data", "step"), "ten"),
    (("event", "data", "train_loss"), [1]),
    (("checkpoint", "step_number"), "ten"),
    (("checkpoint", "metrics"), []),
    (("checkpoint", "fine_tuning_job_id"), "ftjob-2"),
]


@pytest.mark.parametrize(("place", "value"), EXTRAS, ids=str)
def test_what_the_record_can_do_without_is_left_out(
    place: tuple[str, ...], value: Any, provider: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    begin(provider)
    assert run(provider, place, value, times=1000) is None
    record = json.loads(MODEL.read_text(encoding="utf-8"))
    assert record["model"] == TUNED
    printed = capfd.readouterr().err
    assert "left out" in printed or "lacks: checkpoints" in printed
    if place[0] == "job":
        assert f"{place[1]} of the job (damaged)" in " ".join(record["missing"])
    if place[1] == "trained_tokens":
        assert (record["trained_tokens"], record["usd"]) == (None, "unknown")


NEEDED: list[tuple[tuple[str, ...], Any]] = [
    (("job", "id"), 5),
    (("job", "status"), 5),
    (("job", "fine_tuned_model"), [TUNED]),
    (("job", "metadata"), "none"),
    (("job", "training_file"), {}),
    (("file", "status"), []),
]


@pytest.mark.parametrize(("place", "value"), NEEDED, ids=str)
def test_without_what_is_needed_nothing_is_created_again(place: tuple[str, ...], value: Any, provider: Fake) -> None:
    begin(provider)
    error = run(provider, place, value, times=1000)
    assert error is not None
    assert "  → " in str(error)
    assert not MODEL.exists()
    assert f"about a {place[0]}" in error.what
    assert place[1] in error.what
    assert len(provider.jobs) == (place[0] == "job")
    assert run(provider) is None
    assert len(provider.jobs) == 1


def ask(provider: Fake, place: tuple[str, ...] = (), value: Any = None) -> FinetuneError | None:
    """Ask by a batch, and return the error. Any other exception fails the test."""
    provider.place, provider.value, provider.times = place, value, 1000
    damage.warn_once.cache_clear()
    try:
        with connect(load_params().provider) as connection:
            assert answer_batch(connection, QUESTIONS, print, lambda *_: None) == {"q1": COMPLETION}
    except FinetuneError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("place", "value", "is_needed"),
    [
        (("batch", "id"), 5, True),
        (("batch", "status"), 5, True),
        (("batch", "metadata"), "none", True),
        (("batch", "output_file_id"), {}, True),
        (("batch", "error_file_id"), ["file-2"], True),
        (("batch", "request_counts"), "many", False),
        (("batch", "request_counts", "completed"), "one", False),
        (("batch", "errors"), 7, False),
        (("batch", "errors"), {"data": [None]}, False),
        (("batch", "created_at"), "today", False),
        (("list", "has_more"), "perhaps", False),
    ],
    ids=str,
)
def test_no_type_of_a_batchs_field_makes_a_second_batch(
    place: tuple[str, ...], value: Any, is_needed: bool, provider: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    begin(provider)
    error = ask(provider, place, value)
    if is_needed:
        assert error is not None
        assert "about a batch" in error.what
        assert place[1] in error.what
        assert "  → " in str(error)
    else:
        assert error is None
        assert f"about a {place[0]} is left out: {place[1]}" in capfd.readouterr().err
    assert ask(provider) is None
    assert len(provider.batches) == 1


def test_a_batch_that_failed_without_words_says_so(provider: Fake) -> None:
    begin(provider)
    provider.batches = [BATCH]
    error = ask(provider, ("batch", "status"), "failed")
    assert error is not None
    assert "failed: no reason given" in error.what


@pytest.mark.parametrize(
    ("place", "value", "uploads"),
    [
        (("upload", "expires_at"), "soon", 1),
        (("upload", "id"), 5, 2),
        (("part", "id"), None, 1),
        (("completed", "file"), "file-9", 1),
        (("completed", "file", "id"), 9, 1),
        (("completed", "file", "status"), 9, 1),
    ],
    ids=str,
)
def test_no_type_of_an_uploads_field_makes_a_second_file(
    place: tuple[str, ...], value: Any, uploads: int, provider: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(provider)
    shutil.rmtree(".finetune", ignore_errors=True)
    path = PREPARED / "train.jsonl"
    monkeypatch.setitem(
        PROFILES, "compatible", dataclasses.replace(PROFILES["compatible"], file_bytes=100, uploads=True)
    )
    monkeypatch.setattr(remote_files, "PART_BYTES", 300)

    def send() -> str:
        with connect(load_params().provider) as connection:
            return remote_files.ensure_file(connection, path, lambda: None, lambda *_: None, print)[0]

    provider.place, provider.value, provider.times = place, value, 1
    if place[1] == "id":
        with pytest.raises(FinetuneError, match=f"(?s){place[0]}.*  → "):
            send()
    else:  # left out, or the file is found by its name
        send()
    provider.times = 0
    assert send() == "file-9"
    assert len(provider.files) == 1
    assert len(provider.uploads) == uploads


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ({"choices": 5}, Answer("", error="choices: input should be a valid list")),
        ({"choices": ["b"]}, Answer("", error="choices: input should be a valid dictionary")),
        ({"choices": [{"message": "b"}]}, Answer("", error="message: input should be a valid dictionary")),
        ({"choices": [{"message": {"content": 5}}]}, Answer("", error="message.content")),
        ({"choices": [{"text": {}}]}, Answer("", error="text: input should be a valid string")),
        ({**COMPLETION, "usage": [], "model": 5, "system_fingerprint": {}}, Answer("b", cut=False)),
        ({**COMPLETION, "usage": {"prompt_tokens": "5", "completion_tokens": 2}}, Answer("b", None, 2, cut=False)),
        ({"choices": [{"text": "b", "finish_reason": {}, "logprobs": "none"}]}, Answer("b")),
        ({"choices": [{"text": "b", "logprobs": {"content": [{"token": "b", "logprob": "x"}]}}]}, Answer("b")),
        ({"choices": [{"text": "b", "logprobs": {"tokens": "b", "token_logprobs": [1]}}]}, Answer("b")),
    ],
    ids=str,
)
def test_an_answer_of_a_model_is_read_whatever_types_it_has(completion: dict[str, Any], answer: Answer) -> None:
    found = parse_answer(json.loads(json.dumps(completion)), None)
    assert answer.error in found.error
    assert dataclasses.replace(found, error=answer.error) == answer
