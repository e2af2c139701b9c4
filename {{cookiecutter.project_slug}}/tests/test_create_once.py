"""Creating once: what is sent again, what is looked for, and when a refusal is reported. And the job's fingerprint."""

import time
from collections.abc import Callable

import httpx2
import openai
import pytest

from finetune.provider import create_once
from finetune.provider.remote_jobs import job_fingerprint

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/fine_tuning/jobs")


def connection_error() -> openai.OpenAIError:
    return openai.APIConnectionError(request=REQUEST)


def status_error(status: int, code: str = "x", **headers: str) -> Callable[[], openai.OpenAIError]:
    types = {400: openai.BadRequestError, 409: openai.ConflictError, 429: openai.RateLimitError}
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return lambda: types.get(status, openai.InternalServerError)("refused", response=response, body={"code": code})


class Protocol:
    """Record the calls of `create_once`. `created` and `found` are the outcomes of its calls, in their order."""

    def __init__(self, created: list[object], found: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.outcomes = {"create": created, "find": found}
        monkeypatch.setattr(time, "sleep", lambda seconds: self.calls.append(f"sleep {seconds:g}"))

    def next_outcome(self, name: str) -> object:
        self.calls.append(name)
        outcome = self.outcomes[name].pop(0)
        if callable(outcome):
            raise outcome()
        return outcome

    def run(self) -> object:
        return create_once.create_once(
            lambda: self.next_outcome("create"),
            lambda: self.next_outcome("find"),
            "job",
            lambda message: None,
            lambda: self.calls.append("refused"),
        )


@pytest.mark.parametrize("unclear", [connection_error, status_error(500), status_error(503), status_error(409)])
def test_after_an_unclear_outcome_nothing_is_created_again(
    unclear: Callable[[], openai.OpenAIError], monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Protocol([unclear], [None, connection_error, status_error(500), "ftjob-1"], monkeypatch)
    assert protocol.run() == "ftjob-1"
    assert protocol.calls == ["create", "sleep 1", "find", "sleep 2", "find", "sleep 4", "find", "sleep 8", "find"]
    protocol = Protocol([unclear], [None] * 5, monkeypatch)
    with pytest.raises(type(unclear())):
        protocol.run()
    assert (protocol.calls.count("create"), protocol.calls.count("refused")) == (1, 0)


def test_too_many_requests_are_sent_again_after_the_time_that_the_provider_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = [status_error(429, **{"retry-after": "7"}), status_error(429, **{"retry-after-ms": "500"})]
    protocol = Protocol([*busy, status_error(429), "ftjob-1"], [], monkeypatch)
    assert protocol.run() == "ftjob-1"
    assert protocol.calls == ["create", "sleep 7", "create", "sleep 0.5", "create", "sleep 4", "create"]
    protocol = Protocol([status_error(429)] * 6, [], monkeypatch)
    with pytest.raises(openai.RateLimitError):
        protocol.run()
    assert protocol.calls[-2:] == ["create", "refused"]


@pytest.mark.parametrize("refusal", [status_error(400), status_error(429, "insufficient_quota")])
def test_a_refusal_is_final(refusal: Callable[[], openai.OpenAIError], monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = Protocol([refusal], [], monkeypatch)
    with pytest.raises(openai.APIStatusError):
        protocol.run()
    assert protocol.calls == ["create", "refused"]


def test_the_fingerprint_of_a_job_is_that_of_earlier_versions() -> None:
    """Another derivation would train, and pay for, each fine-tune again."""
    settings = {
        "model": "m",
        "method": "supervised",
        "hyperparameters": {"n_epochs": "auto"},
        "seed": 1,
        "suffix": "é",
    }
    known = "ec2681672e83aafc073e41800b8dd7ddf971d4d8030fe6743a705e56c69d13d8"
    assert job_fingerprint("a" * 64, None, settings) == known
