"""Test the API through the openai package, which checks every answer against its types."""

import json
import os
import stat
import time
from codecs import BOM_UTF8
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import openai
import pytest
from conftest import start_job, training_lines, wait

from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.sections.provider import Provider
from finetune.engine.api_errors import ApiError
from finetune.engine.inference.generation_types import GenerationRequest
from finetune.engine.inference.generator import Generator
from finetune.engine.store import Store
from finetune.stages import upload


@pytest.fixture(scope="module")
def job(client: openai.OpenAI) -> Any:
    return wait(client, start_job(client, epochs=4, suffix="mine", metadata={"team": "a"}).id)


def test_a_job_from_upload_to_model(client: openai.OpenAI, job: Any) -> None:
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model.startswith("ft:tiny:local:mine:")
    assert job.hyperparameters.n_epochs == 4
    assert job.hyperparameters.batch_size == 2  # auto: a tenth of 24 examples
    assert job.hyperparameters.learning_rate_multiplier == 1.0
    assert job.method.supervised.hyperparameters.to_dict() == job.hyperparameters.to_dict()
    assert job.seed == 7
    assert job.trained_tokens % 4 == 0
    assert job.trained_tokens > 0


def test_azure_gets_its_byte_order_mark(client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", client.api_key)
    PREPARED.mkdir(parents=True)
    for split in ("train", "valid"):
        (PREPARED / f"{split}.jsonl").write_bytes(training_lines(12))
    refusals = ("refuse_unsupported", "refuse_over_budget", "refuse_over_total", "refuse_after_shutdown")
    for check in (*refusals, "date_warnings", "fingerprint_now"):
        monkeypatch.setattr(upload, check, lambda *_, **__: ())
    provider = Provider(name="azure", base_url=str(client.base_url))
    record = upload.run(cast("Params", SimpleNamespace(provider=provider)))
    assert client.files.content(record["train"]["id"]).content == BOM_UTF8 + training_lines(12)


def test_tokenize_uses_the_tokenizer_of_the_model(client: openai.OpenAI, job: Any) -> None:
    address = str(client.base_url).removesuffix("/v1/") + "/tokenize"

    def tokenize(model: Any, text: Any) -> dict[str, Any]:
        return dict(client.post(address, cast_to=dict[str, Any], body={"model": model, "prompt": text}))

    assert tokenize("tiny", "hello 荷物")["count"] == len(tokenize("tiny", "hello 荷物")["tokens"]) > 1
    assert tokenize(job.fine_tuned_model, "hello 荷物") == tokenize("tiny", "hello 荷物")
    with pytest.raises(openai.NotFoundError):
        tokenize("none", "hello")
    with pytest.raises(openai.BadRequestError):
        tokenize("tiny", 7)


def test_events_are_listed_newest_first(client: openai.OpenAI, job: Any) -> None:
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=7))
    assert events[0].message == "The job has successfully completed"
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    steps = [e.data["step"] for e in reversed(events) if e.type == "metrics"]  # type: ignore[index]
    assert steps == list(range(1, 49))
    assert sum("full_valid_loss" in (e.data or {}) for e in events) == 4  # type: ignore[operator]


def test_the_last_three_checkpoints_are_kept_and_the_newest_is_the_model(client: openai.OpenAI, job: Any) -> None:
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [c.step_number for c in checkpoints] == [48, 36, 24]
    assert checkpoints[0].fine_tuned_model_checkpoint == job.fine_tuned_model
    assert checkpoints[1].fine_tuned_model_checkpoint.endswith(":ckpt-step-36")
    assert checkpoints[0].metrics.full_valid_loss is not None
    assert {m.id for m in client.models.list()} >= {"tiny", *(c.fine_tuned_model_checkpoint for c in checkpoints)}


def test_the_result_file_reports_a_falling_loss(client: openai.OpenAI, job: Any) -> None:
    lines = client.files.content(job.result_files[0]).text.splitlines()
    assert lines[0] == (
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
        ",elapsed_tokens,elapsed_examples,train_sequence_accuracy,valid_sequence_accuracy"
    )
    assert len(lines) == 49
    assert float(lines[48].split(",")[1]) < float(lines[1].split(",")[1]) * 0.95


def test_lists_page_and_filter_by_metadata(client: openai.OpenAI, job: Any) -> None:
    other = start_job(client, metadata={"team": "b"})
    found = list(client.fine_tuning.jobs.list(limit=1, metadata={"team": "a"}))
    assert [j.id for j in found] == [job.id]
    assert [j.id for j in client.fine_tuning.jobs.list(limit=1)][:2] == [other.id, job.id]
    assert list(client.fine_tuning.jobs.list(metadata={"team": "c"})) == []
    assert client.fine_tuning.jobs.cancel(other.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.cancel(job.id)


def test_chat_with_every_setting(client: openai.OpenAI, job: Any) -> None:
    def ask(**more: Any) -> Any:
        settings: dict[str, Any] = {"model": job.fine_tuned_model, "max_tokens": 6, "temperature": 0, **more}
        return client.chat.completions.create(messages=[{"role": "user", "content": "1: paint it blue"}], **settings)

    one = ask(logprobs=True, top_logprobs=3)
    content = one.choices[0].logprobs.content
    assert len(content[0].top_logprobs) == 3
    assert content[0].logprob == content[0].top_logprobs[0].logprob <= 0
    assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens
    # A token that is not a whole character is reported by its bytes.
    pieces = ask(model="tiny", logprobs=True, top_logprobs=1, temperature=2, seed=5, max_tokens=60).choices[0]
    raw = bytes(byte for token in pieces.logprobs.content for byte in token.bytes)
    assert raw.decode("utf-8", "replace") == pieces.message.content
    assert "\ufffd" in pieces.message.content
    full = ask(model="tiny", max_completion_tokens=6, max_tokens=None)
    assert full.choices[0].finish_reason == "length"
    text = full.choices[0].message.content
    cut = ask(model="tiny", stop=text[2])
    assert cut.choices[0].message.content == text[: text.index(text[2])]
    assert cut.choices[0].finish_reason == "stop"
    drawn = [ask(model="tiny", temperature=1.5, seed=3, n=4) for _ in range(2)]
    texts = [[choice.message.content for choice in answer.choices] for answer in drawn]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


@pytest.mark.parametrize(
    ("call", "error", "param"),
    [
        (lambda c: c.files.retrieve("file-none"), openai.NotFoundError, "id"),
        (lambda c: c.fine_tuning.jobs.retrieve("ftjob-none"), openai.NotFoundError, "id"),
        (lambda c: c.models.retrieve("ft:none"), openai.NotFoundError, "model"),
        (lambda c: c.files.create(file=("a", b"[1]\n"), purpose="fine-tune"), openai.BadRequestError, "file"),
        (lambda c: c.files.create(file=("a", b"{}"), purpose="else"), openai.BadRequestError, "purpose"),
        (lambda c: c.fine_tuning.jobs.list(limit=0), openai.BadRequestError, "limit"),
        (lambda c: start_job(c, training_file="file-none"), openai.BadRequestError, "training_file"),
        (lambda c: start_job(c, seed=-1), openai.BadRequestError, "seed"),
        (lambda c: start_job(c, epochs=0), openai.BadRequestError, "hyperparameters.n_epochs"),
        (lambda c: start_job(c, model="gpt-9"), openai.BadRequestError, "model"),
        (lambda c: start_job(c, method={"type": "reinforcement"}), openai.BadRequestError, "method"),
        (lambda c: start_job(c, extra_body={"colour": 1}), openai.BadRequestError, "colour"),
        (lambda c: chat(c, model="gpt-9"), openai.NotFoundError, "model"),
        (lambda c: chat(c, temperature=3), openai.BadRequestError, "temperature"),
        (lambda c: chat(c, top_logprobs=2), openai.BadRequestError, "top_logprobs"),
        (lambda c: chat(c, tools=[{"type": "function"}]), openai.BadRequestError, "tools"),
        (lambda c: chat(c, max_tokens=5000), openai.BadRequestError, "messages"),
        (lambda c: chat(c, messages=[]), openai.BadRequestError, "messages"),
    ],
)
def test_a_refusal_has_the_envelope_with_all_four_keys(
    client: openai.OpenAI, call: Any, error: Any, param: str
) -> None:
    with pytest.raises(error) as caught:
        call(client)
    envelope = caught.value.response.json()["error"]
    assert set(envelope) == {"message", "type", "param", "code"}
    assert envelope["param"] == param
    assert envelope["message"]


USER = {"role": "user", "content": "a"}
JOB = {"model": "tiny", "training_file": "file-none"}
UPLOAD = {"filename": "a", "mime_type": "text/plain", "purpose": "batch", "bytes": 1}
BATCH = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": "file-none"}
CHAT = {"model": "tiny", "messages": [USER]}


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("fine_tuning/jobs", {"training_file": "file-none"}, "model_not_found", "model"),
        ("fine_tuning/jobs", {"model": "tiny"}, "invalid_file", "training_file"),
        ("fine_tuning/jobs", {**JOB, "training_file": ["file-none"]}, "invalid_file", "training_file"),
        ("fine_tuning/jobs", {**JOB, "validation_file": {"id": "file-none"}}, "invalid_file", "validation_file"),
        ("fine_tuning/jobs", {**JOB, "zeal": 1, "colour": 1}, "unknown_parameter", "colour"),
        ("fine_tuning/jobs", {**JOB, "seed": True}, "invalid_value", "seed"),
        ("fine_tuning/jobs", {**JOB, "seed": 1.5}, "invalid_value", "seed"),
        ("fine_tuning/jobs", {**JOB, "suffix": "x" * 65}, "invalid_value", "suffix"),
        ("fine_tuning/jobs", {**JOB, "metadata": {"a": 1}}, "invalid_value", "metadata"),
        ("fine_tuning/jobs", {**JOB, "metadata": dict.fromkeys("abcdefghijklmnopq", "")}, "invalid_value", "metadata"),
        ("fine_tuning/jobs", {**JOB, "integrations": [{"type": "wandb"}]}, "invalid_value", "integrations"),
        ("fine_tuning/jobs", {**JOB, "method": "supervised"}, "unsupported_value", "method"),
        ("fine_tuning/jobs", {**JOB, "method": {"type": "supervised", "supervised": 7}}, "unsupported_value", "method"),
        ("fine_tuning/jobs", {**JOB, "hyperparameters": 7}, "invalid_value", "hyperparameters"),
        ("uploads", {**UPLOAD, "bytes": True}, "invalid_value", "bytes"),
        ("uploads", {**UPLOAD, "filename": 7}, "invalid_value", "filename"),
        ("batches", {**BATCH, "endpoint": 7}, "invalid_value", "endpoint"),
        ("batches", {**BATCH, "input_file_id": ["file-none"]}, "invalid_file", "input_file_id"),
        ("chat/completions", {"messages": [USER]}, "missing_required_parameter", "model"),
        ("chat/completions", {**CHAT, "messages": [USER, {"role": "user"}]}, "invalid_value", "messages[1]"),
        ("chat/completions", {**CHAT, "messages": ["a"]}, "invalid_value", "messages[0]"),
        ("chat/completions", {**CHAT, "messages": [{**USER, "role": "bot"}]}, "invalid_value", "messages[0]"),
        ("chat/completions", {**CHAT, "temperature": True}, "invalid_value", "temperature"),
        ("chat/completions", {**CHAT, "n": True}, "invalid_value", "n"),
        ("chat/completions", {**CHAT, "stop": 7}, "invalid_value", "stop"),
        ("chat/completions", {**CHAT, "stop": ["a", ""]}, "invalid_value", "stop"),
        ("chat/completions", {**CHAT, "stop": list("abcde")}, "invalid_value", "stop"),
        ("chat/completions", {**CHAT, "stream": True, "zeal": None}, "unsupported_parameter", "zeal"),
        ("chat/completions", {**CHAT, "reasoning_effort": "low"}, "invalid_value", "reasoning_effort"),
    ],
)
def test_a_malformed_body_is_refused_and_the_parameter_named(
    client: openai.OpenAI, path: str, body: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(f"/{path}", cast_to=object, body=body)
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize("name", ["n_epochs", "batch_size", "learning_rate_multiplier"])
@pytest.mark.parametrize("value", [True, "1", "most", None, 0, -1, 1001, [1]])
def test_a_hyperparameter_is_auto_or_a_number_within_its_limits(client: openai.OpenAI, name: str, value: Any) -> None:
    for place in ({"hyperparameters": {name: value}}, {"method": supervised({name: value})}):
        with pytest.raises(openai.BadRequestError, match='must be "auto" or ') as caught:
            client.post("/fine_tuning/jobs", cast_to=object, body={**JOB, **place})
        assert (caught.value.code, caught.value.param) == ("invalid_value", f"hyperparameters.{name}")


def test_an_unknown_hyperparameter_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/fine_tuning/jobs", cast_to=object, body={**JOB, "method": supervised({"rate": 1})})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "hyperparameters.rate")


def supervised(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


@pytest.mark.parametrize("path", ["fine_tuning/jobs", "uploads", "batches", "chat/completions"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}", b'{"\\ud800": 1}']
)
def test_a_body_that_is_not_a_json_object_is_refused(client: openai.OpenAI, path: str, content: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match="JSON body"):
        client.post(f"/{path}", cast_to=object, content=content)


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "many", "9" * 5000])
def test_a_limit_is_an_integer_within_its_range(client: openai.OpenAI, limit: str) -> None:
    for path in ("/files", "/fine_tuning/jobs", "/batches"):
        with pytest.raises(openai.BadRequestError) as caught:
            client.get(path, cast_to=object, options={"params": {"limit": limit}})
        assert caught.value.param == "limit"


def chat(client: openai.OpenAI, **more: Any) -> Any:
    settings: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], **more}
    return client.chat.completions.create(**settings)


def test_no_answer_without_the_key(client: openai.OpenAI) -> None:
    keyless = client.with_options(api_key="wrong")
    for call in (keyless.models.list, keyless.fine_tuning.jobs.list, lambda: chat(keyless)):
        with pytest.raises(openai.AuthenticationError) as caught:
            call()
        assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (training_lines(9), "invalid_n_examples", "at least 10"),
        (training_lines(12) + b'{"prompt": "a"}\n', "invalid_training_file", "Example 13 is missing key 'messages'"),
        (training_lines(12).replace(b"assistant", b"bot", 1), "invalid_training_file", "(line 1)"),
    ],
)
def test_a_bad_training_file_fails_the_job_and_names_the_line(
    client: openai.OpenAI, content: bytes, code: str, message: str
) -> None:
    file = client.files.create(file=("bad.jsonl", content), purpose="fine-tune")
    job = wait(client, start_job(client, training_file=file.id).id)
    assert job.status == "failed"
    assert job.error.code == code
    assert job.error.param == "training_file"
    assert message in job.error.message
    assert job.fine_tuned_model is None


def test_files_are_listed_read_and_deleted(client: openai.OpenAI) -> None:
    file = client.files.create(file=("naïve.jsonl", b'{"a": 1}\n'), purpose="fine-tune")
    assert client.files.content(file.id).content == b'{"a": 1}\n'
    assert file.id in [f.id for f in client.files.list(purpose="fine-tune")]
    assert file.id not in [f.id for f in client.files.list(purpose="batch")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


@pytest.mark.slow
def test_a_fine_tuned_model_is_deleted_with_its_checkpoint_and_files(client: openai.OpenAI, home: Path) -> None:
    folders = set((home / "models").iterdir())
    job = wait(client, start_job(client, suffix="old").id)
    name = job.fine_tuned_model
    final, earlier = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert chat(client, model=name, max_tokens=2).choices
    deleted = client.models.delete(name)
    assert (deleted.id, deleted.object, deleted.deleted) == (name, "model", True)
    calls: list[Callable[[], Any]] = [
        lambda: chat(client, model=name, max_tokens=2),
        lambda: client.models.retrieve(name),
        lambda: client.models.delete(name),
        *(partial(client.files.retrieve, file) for file in final.result_files),  # type: ignore[attr-defined]
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
    assert [c.id for c in client.fine_tuning.jobs.checkpoints.list(job.id).data] == [earlier.id]
    assert client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model == name  # as at OpenAI
    assert len(set((home / "models").iterdir()) - folders) == 1
    assert chat(client, model=earlier.fine_tuned_model_checkpoint, max_tokens=2).choices


@pytest.mark.slow
def test_a_request_that_waits_for_a_deleted_model_is_refused_and_others_are_answered(
    client: openai.OpenAI, home: Path
) -> None:
    name = wait(client, start_job(client).id).fine_tuned_model
    requests = [GenerationRequest(m, [{"role": "user", "content": "a"}], 2, 0, 1, 0, (), None) for m in (name, "tiny")]
    generator = Generator(Store(home))
    try:
        start = generator._start

        def start_and_delete(one: Any) -> Any:
            state = start(one)
            if one.request.model == name:
                client.models.delete(name)
            return state

        generator._start = start_and_delete  # type: ignore[method-assign]
        gone, fine = (generator.submit(request) for request in requests)
        with pytest.raises(ApiError) as caught:
            gone.result(timeout=60)
        assert caught.value.status == 404
        assert fine.result(timeout=60).completion_tokens == 2
    finally:
        generator.close()


@pytest.mark.slow
def test_a_base_and_a_model_of_a_running_job_cannot_be_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="base model"):
        client.models.delete("tiny")
    job = start_job(client, epochs=50)
    while not (checkpoints := client.fine_tuning.jobs.checkpoints.list(job.id).data):
        time.sleep(0.05)
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        client.models.delete(checkpoints[0].fine_tuned_model_checkpoint)
    client.fine_tuning.jobs.cancel(job.id)
    assert client.models.delete(checkpoints[0].fine_tuned_model_checkpoint).deleted


def test_only_the_owner_can_read_the_home_and_it_holds_no_key(client: openai.OpenAI, home: Path, job: Any) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "engine.db").stat().st_mode) == 0o600
    for path in home.glob("*"):
        if path.is_file():
            assert client.api_key.encode() not in path.read_bytes()


def test_an_adapters_config_has_no_path_and_sorted_modules(client: openai.OpenAI, job: Any, home: Path) -> None:
    final = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    files = [client.files.retrieve(file).filename for file in final.result_files]  # type: ignore[attr-defined]
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads(client.files.content(final.result_files[0]).content)  # type: ignore[attr-defined]
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["base_model_name_or_path"] == "tiny"
    assert os.fspath(home) not in json.dumps(config)
