"""Creating once: what is sent again, what is looked for, and what becomes of the note. And the job's fingerprint."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import openai
import pytest

from finetune.core.errors import FinetuneError
from finetune.core.records.requests import RequestNote
from finetune.provider import create_once
from finetune.provider.find_jobs import FINGERPRINT
from finetune.provider.remote_jobs import forget_request, is_answer_to, job_fingerprint
from finetune.provider.request_notes import note_path, read_request_note

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/fine_tuning/jobs")


def connection_error() -> openai.OpenAIError:
    return openai.APIConnectionError(request=REQUEST)


def status_error(status: int, code: str = "x", **headers: str) -> openai.OpenAIError:
    types: dict[int, type[openai.APIStatusError]] = {429: openai.RateLimitError}
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    usual = openai.InternalServerError if status >= 500 else openai.APIStatusError
    return types.get(status, usual)("refused", response=response, body={"code": code})


class Protocol:
    """Record the calls of `create_once`. `created` and `found` are the outcomes of its calls, in their order.

    The clock moves only by the pauses.
    """

    def __init__(self, created: list[object], found: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.said: list[str] = []
        self.outcomes = {"create": created, "find": found}
        self.seconds = 1_000_000.0
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(time, "monotonic", lambda: self.seconds)
        client = SimpleNamespace(api_key="sk-test")
        clock = SimpleNamespace(now=lambda: self.seconds)
        connection = cast("Any", SimpleNamespace(identity="openai", clock=clock, client=client))
        create, say = partial(self.next_outcome, "create"), self.said.append
        self.creation = create_once.Creation(
            connection, "key", "job", "fine_tuning.job", create, self.find, say, forgets="finetune repeat --forget"
        )

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def find(self, note: RequestNote) -> object:
        return self.next_outcome("find")

    def next_outcome(self, name: str) -> object:
        self.calls.append(name)
        outcome = self.outcomes[name].pop(0) if self.outcomes[name] else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def run(self) -> object:
        return create_once.create_once(self.creation, lambda: nullcontext({"usd": 1.0}), ["ftjob-0"])

    def note(self) -> dict[str, Any]:
        return cast("dict[str, Any]", read_request_note("openai", "key") or {})


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def made(name: str = "ftjob-1", **more: object) -> SimpleNamespace:
    return SimpleNamespace(id=name, object="fine_tuning.job", **more)


UNCLEAR: list[object] = [
    connection_error(),
    *(status_error(status) for status in (302, 307, 408, 409, 500, 501, 503)),
    None,
    [],
    made(""),
    SimpleNamespace(id=None, object=None),
    SimpleNamespace(id="file-1", object="file"),
    SimpleNamespace(error={"message": "overloaded"}),
]


@pytest.mark.parametrize("unclear", UNCLEAR, ids=str)
def test_after_an_unclear_outcome_nothing_is_created_again(unclear: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is no job, or no answer: the list is asked until it had its time, and the note stays."""
    protocol = Protocol([unclear], [None, connection_error(), status_error(500), made()], monkeypatch)
    assert protocol.run() == made()
    assert protocol.calls == ["create", "find", "find", "find", "find"]
    assert protocol.note().get("id") == "ftjob-1"
    protocol = Protocol([unclear], [], monkeypatch)
    with pytest.raises(FinetuneError, match="no clear outcome"):
        protocol.run()
    assert protocol.calls.count("create") == 1
    assert protocol.seconds - 1_000_000 == create_once.LIST_LAG
    assert protocol.note().get("id") is None


def test_the_answer_to_another_request_is_no_clear_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache gave it: its job would be waited for, and its model taken for this one's."""
    protocol = Protocol([made("ftjob-old")], [None, made("ftjob-1")], monkeypatch)
    protocol.creation = dataclasses.replace(protocol.creation, is_ours=lambda job: job != made("ftjob-old"))
    assert protocol.run() == made("ftjob-1")
    assert "is another job" in protocol.said[0]


@pytest.mark.parametrize(
    ("shown", "is_ours"),
    [
        ({"metadata": {FINGERPRINT: "f"}, "training_file": "file-1"}, True),
        ({"metadata": None, "training_file": None}, True),
        ({"metadata": {"team": "a"}, "training_file": "file-1"}, True),
        ({"metadata": {FINGERPRINT: "g"}, "training_file": "file-1"}, False),
        ({"metadata": None, "training_file": "file-2"}, False),
    ],
)
def test_a_job_shows_whose_request_made_it(shown: dict[str, Any], is_ours: bool) -> None:
    job: Any = SimpleNamespace(**shown)
    assert is_answer_to("f", {"training_file": "file-1"}, job) == is_ours


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422])
def test_only_a_certain_refusal_removes_the_note(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = Protocol([status_error(status)], [], monkeypatch)
    with pytest.raises(openai.APIStatusError):
        protocol.run()
    assert protocol.calls == ["create"]
    assert bool(protocol.note()) == (status == 400)  # a gateway may answer 400 after the effect


def test_a_refusal_keeps_what_is_known_of_an_earlier_job(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Protocol([made("ftjob-7")], [], monkeypatch)
    first.run()
    second = Protocol([status_error(403)], [], monkeypatch)
    with pytest.raises(openai.APIStatusError):
        second.run()
    assert second.note().get("id") == "ftjob-7"
    third = Protocol([made("ftjob-8")], [], monkeypatch)
    third.run()
    assert third.note().get("earlier") == [{"id": "ftjob-7", "facts": {"usd": 1.0}}]


def test_who_forgets_a_request_keeps_what_earlier_ones_have_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server that drops metadata, the note alone knows that job: without it, the job would be paid again."""
    first = Protocol([made("ftjob-7")], [], monkeypatch)
    first.run()
    second = Protocol([connection_error()], [], monkeypatch)
    with pytest.raises(FinetuneError, match="no clear outcome"):
        second.run()
    assert "id" not in second.note()
    forget_request(second.creation.connection, "key")
    assert {**second.note(), "asked_at": 0} == {
        "asked_at": 0,
        "known": [],
        "facts": {"usd": 1.0},
        "id": "ftjob-7",
        "earlier": [],
    }
    third = Protocol([connection_error()], [], monkeypatch)
    third.creation = dataclasses.replace(third.creation, key="other")
    with pytest.raises(FinetuneError, match="no clear outcome"):
        third.run()
    forget_request(third.creation.connection, "other")
    assert read_request_note("openai", "other") is None


def test_a_429_is_sent_again_when_the_list_had_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway may answer 429 after the effect. A code that is final is not waited for."""
    busy = [status_error(429, **{"retry-after": "7"}), status_error(429, **{"retry-after": "400"})]
    protocol = Protocol([*busy, made()], [], monkeypatch)
    assert protocol.run() == made()
    assert protocol.calls.count("create") == 3
    assert protocol.seconds - 1_000_000 == create_once.LIST_LAG + 400
    protocol = Protocol([status_error(429)], [None, made()], monkeypatch)
    assert protocol.run() == made()
    assert protocol.calls.count("create") == 1
    protocol = Protocol([status_error(429)] * 9, [], monkeypatch)
    with pytest.raises(FinetuneError, match="no clear outcome"):
        protocol.run()
    assert protocol.calls.count("create") == create_once.ATTEMPTS
    protocol = Protocol([status_error(429, "insufficient_quota")], [], monkeypatch)
    with pytest.raises(openai.RateLimitError):
        protocol.run()
    assert protocol.calls == ["create"]


@pytest.mark.parametrize(("age", "waits"), [(0, 180), (100, 80), (180, 0), (99_999, 0), (-300, 180)])
def test_a_note_is_fresh_until_the_list_had_its_time(age: int, waits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The age is by the provider's clock; one that was turned back makes nobody wait for longer."""
    protocol = Protocol([], [], monkeypatch)
    note: RequestNote = {"asked_at": protocol.seconds - age, "known": [], "facts": {}}
    assert create_once.find_by_note(protocol.creation, note) is None
    assert protocol.seconds - 1_000_000 == waits
    assert any("finetune repeat --forget" in words for words in protocol.said) == (waits > 0)


def test_what_was_created_a_moment_ago_and_is_not_shown_yet_is_not_created_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some servers do not know an ID for a moment, neither in their list nor by itself."""
    protocol = Protocol([made()], [None, None, made()], monkeypatch)
    protocol.run()
    note = read_request_note("openai", "key")
    assert create_once.find_by_note(protocol.creation, note) == made()
    assert "does not show the job ftjob-1 yet" in protocol.said[0]
    create_once.keep_that_it_was_shown(protocol.creation)
    said = len(protocol.said)
    note = read_request_note("openai", "key")
    assert create_once.find_by_note(protocol.creation, note) is None  # it was deleted
    assert len(protocol.said) == said


def test_a_note_is_as_young_as_the_younger_of_two_clocks_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers behind one address may have clocks that differ by minutes."""
    protocol = Protocol([], [None, made()], monkeypatch)
    monkeypatch.setattr(time, "time", lambda: 5_000.0)
    note: RequestNote = {"asked_at": protocol.seconds - 300, "asked_here": 4_990.0, "known": [], "facts": {}}
    assert create_once.find_by_note(protocol.creation, note) == made()


def test_a_long_retry_after_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = Protocol([status_error(429, **{"retry-after": "1e12"}), made()], [], monkeypatch)
    assert protocol.run() == made()
    assert protocol.seconds - 1_000_000 == create_once.LONGEST_WAIT


def test_the_last_look_must_be_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, nobody knows whether the job exists."""
    protocol = Protocol([connection_error()], [connection_error()] * 99, monkeypatch)
    with pytest.raises(openai.APIConnectionError):
        protocol.run()
    assert protocol.note()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"\xff\xfe",
        lambda content: b"{}",
        lambda content: content.replace(b'"facts": {', b'"facts": [], "x": {'),
        lambda content: content.replace(b'"ftjob-1"', b"[1]"),
        lambda content: content.replace(b'"earlier": []', b'"earlier": [5]'),
    ],
)
def test_a_damaged_note_is_a_request_that_may_have_had_its_effect(
    damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Protocol([made()], [], monkeypatch)
    protocol.run()
    path = note_path("openai", "key")
    path.write_bytes(damage(path.read_bytes()))
    written_at = path.stat().st_mtime
    for _ in range(2):  # the damaged file is set aside, and what it stands for is kept
        assert "id" not in protocol.note()
        assert protocol.note()["asked_at"] == written_at


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
