"""Many requests at once: no row is lost, order and rate limits are kept, and nothing is requested twice."""

import json
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from loopback import Answer as Reply
from loopback import completion, refusal, server

from finetune.asking import split_answers
from finetune.core.errors import FinetuneError
from finetune.core.sections.evaluate import ANSWERING, Evaluate
from finetune.core.sections.provider import Provider
from finetune.provider import completions
from finetune.provider.answer_cache import cache_key, open_answer_cache
from finetune.provider.answer_parser import Answer
from finetune.provider.completions import answer_all
from finetune.provider.connect import connect


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_API_KEY", "k")


def ask(address: str, count: int, concurrency: int = 16, top_logprobs: int = 0) -> list[Answer]:
    settings = Evaluate(max_tokens=5, temperature=0.0, concurrency=concurrency)
    prompts = [[{"role": "user", "content": str(number)}] for number in range(count)]
    with connect(Provider(name="compatible", base_url=address)) as connection:
        return answer_all(connection, "m", prompts, settings, 1, lambda *_: None, print, top_logprobs=top_logprobs)


def question_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def test_no_row_is_lost_and_the_order_is_kept_under_a_limit() -> None:
    lock, state = threading.Lock(), {"level": 20.0, "at": time.monotonic(), "refused": 0}

    def limited(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        with lock:
            now = time.monotonic()
            state["level"] = min(20.0, state["level"] + (now - state["at"]) * 100)
            state["at"] = now
            if state["level"] < 1:
                state["refused"] += 1
                return 429, refusal("rate_limit_exceeded"), {"retry-after-ms": "50"}
            state["level"] -= 1
            left = int(state["level"])
        time.sleep(0.02)
        headers = {"x-ratelimit-limit-requests": "6000", "x-ratelimit-remaining-requests": str(left)}
        return 200, completion(f"answer {question_of(body)}"), headers

    with server(limited) as address:
        start = time.monotonic()
        answers = ask(address, 200, concurrency=64)
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(200)]
    assert state["refused"] < 100  # without the limits of the headers, each waiting request is sent again and again
    assert time.monotonic() - start > 1.5  # 100 a second


def test_a_429_lowers_the_concurrency_where_no_header_names_a_limit() -> None:
    lock, state = threading.Lock(), {"now": 0, "refused": 0}

    def busy(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        with lock:
            state["now"] += 1
            full = state["now"] > 8
            state["refused"] += full
        time.sleep(0.01)
        with lock:
            state["now"] -= 1
        if full:
            return 429, refusal("slow_down"), {"retry-after": "0.05"}
        return 200, completion(question_of(body)), {}

    with server(busy) as address:
        answers = ask(address, 300, concurrency=32)
    assert [answer.text for answer in answers] == [str(number) for number in range(300)]
    assert state["refused"] < 300


def test_a_refused_row_gets_an_error_and_is_requested_again_in_the_next_run() -> None:
    asked: list[str] = []

    def refusing_3(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        asked.append(question_of(body))
        if question_of(body) == "3":
            return 400, refusal("content_filter", "We do not answer this."), {}
        return 200, completion("yes"), {"openai-processing-ms": "120"}

    with server(refusing_3) as address:
        answers = ask(address, 30)
        assert [number for number, answer in enumerate(answers) if answer.error] == [3]
        assert answers[3].error == "400 content_filter: We do not answer this."
        assert {answer.seconds for answer in answers if not answer.error} == {0.12}
        ask(address, 30)
    assert len(asked) == 32  # the others are kept; one request finds out which model answers now


def test_a_run_stops_early_where_every_request_is_refused() -> None:
    asked: list[str] = []

    def refusing_all(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        asked.append(question_of(body))
        return 400, refusal("unsupported_parameter", "This server does not support 'logprobs'."), {}

    with server(refusing_all) as address, pytest.raises(FinetuneError, match="logprobs"):
        ask(address, 500, top_logprobs=5)
    assert len(asked) < 100


def test_server_errors_are_retried_and_a_spent_quota_ends_the_run() -> None:
    times: dict[str, int] = {}

    def failing_once(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        times[question_of(body)] = times.get(question_of(body), 0) + 1
        return (503, refusal("server_error"), {}) if times[question_of(body)] == 1 else (200, completion("yes"), {})

    with server(failing_once) as address:
        assert {answer.text for answer in ask(address, 20)} == {"yes"}
    assert set(times.values()) == {2}
    with (
        server(lambda body: (429, refusal("insufficient_quota"), {})) as address,
        pytest.raises(FinetuneError, match="Add credit"),
    ):
        ask(address, 20)


def test_a_stopped_run_continues_where_it_was() -> None:
    asked: list[str] = []
    most = [40]

    def until_revoked(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if len(asked) >= most[0]:
            return 401, refusal("invalid_api_key"), {}
        asked.append(question_of(body))
        return 200, completion("yes"), {}

    with server(until_revoked) as address:
        with pytest.raises(FinetuneError, match="Check FINETUNE_API_KEY"):
            ask(address, 100, concurrency=4)
        most[0] = 1000
        assert len(ask(address, 100, concurrency=4)) == 100
    assert 100 <= len(asked) <= 104  # requests in flight at the stop may have been sent again


def test_log_probabilities_that_are_no_numbers_become_none() -> None:
    top = [{"token": "yes", "logprob": float("nan"), "bytes": None}]
    logprobs = {"content": [{"token": "yes", "logprob": None, "bytes": None, "top_logprobs": top}]}

    with server(lambda body: (200, completion("yes", logprobs=logprobs), {})) as address:
        answers = [*ask(address, 1, top_logprobs=5), *ask(address, 1, top_logprobs=5)]  # the second is from the cache
    for answer in answers:
        assert answer.text == "yes"
        assert answer.logprobs == [[("yes", None)] * 2]


def test_answers_that_earlier_versions_kept_are_found(tmp_path: Path) -> None:
    """The key and the table are those of the first version: another derivation would pay for each answer again."""
    request = {
        "model": "m",
        "temperature": 0.0,
        "seed": 1,
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Grüße"}],
    }
    key = "eb1b68e0e0e55e4dfd491ec32be69e28170e65b7b4d6cd14f776c2220d90727f"
    assert cache_key("compatible http://127.0.0.1:1/v1", request) == key
    kept = {
        "text": "kept",
        "prompt_tokens": 7,
        "completion_tokens": 1,
        "seconds": 0.5,
        "logprobs": [[["kept", -0.1], ["other", None]]],
        "error": "",
    }
    with closing(sqlite3.connect(tmp_path / "answers.db", isolation_level=None)) as db:
        db.execute("CREATE TABLE completions (key TEXT PRIMARY KEY, answer TEXT)")
        db.execute("INSERT INTO completions VALUES (?, ?)", (key, json.dumps(kept)))
    with open_answer_cache() as cache:
        answer = cache.get(key)
        assert answer == Answer("kept", 7, 1, 0.5, [[("kept", -0.1), ("other", None)]])
        cache.put("another", answer, "compatible", "m")
        cache.put("cut", replace(answer, cut=True), "compatible", "m")
        assert cache.get("cut") == replace(answer, cut=True)
    with closing(sqlite3.connect(tmp_path / "answers.db")) as db:
        assert db.execute("SELECT answer FROM completions WHERE key = 'another'").fetchone() == (json.dumps(kept),)


@pytest.mark.parametrize(
    ("expected", "marks", "kept"),
    [
        ("yes", None, "return x"),
        ("    yes", None, "    return x\n"),
        ("    yes", {"separator": " ->", "lead": " ", "stop": "###"}, "   return x\n"),
    ],
)
def test_answers_keep_their_white_space_where_expected_ones_have_some(
    monkeypatch: pytest.MonkeyPatch, expected: str, marks: dict[str, str] | None, kept: str
) -> None:
    monkeypatch.setattr(split_answers, "answer_all", lambda *arguments: [Answer("    return x\n")])
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": expected}]}
    example = {"prompt": "a ->", "completion": f" {expected}###"} if marks else chat
    settings = Evaluate(max_tokens=5, temperature=0.0, concurrency=1)
    same = {**settings.model_dump(include={*ANSWERING}), "seed": 1, "top_logprobs": 0}
    params, questions = SimpleNamespace(evaluate=settings), {**same, "completion": marks}
    (row,) = split_answers.ask_examples(cast("Any", None), cast("Any", params), cast("Any", questions), "m", [example])
    assert (row["expected"], row["answer"]) == (expected, kept)


def test_a_batch_is_asked_again_without_the_parameter_that_its_rows_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the one that OpenAI's reasoning models give, as the line of a batch's error file has it."""
    message = "Unsupported value: 'temperature' does not support 0.0 with this model."
    error = {"message": message, "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}
    too_long = {"message": "Too long.", "type": "invalid_request_error", "param": "messages", "code": "string_too_long"}
    batches: list[dict[str, Any]] = []

    def batch(_connection: Any, requests: dict[str, dict[str, Any]], *_: Any) -> dict[str, Any]:
        batches.append(requests)
        answers: dict[str, Any] = {}
        for key, request in requests.items():
            asked = question_of(request)
            refuses = "temperature" in request or asked == "7"
            answers[key] = {"error": too_long if asked == "7" else error} if refuses else completion(f"<{asked}>")
        return answers

    monkeypatch.setattr(completions, "answer_batch", batch)
    settings = Evaluate(max_tokens=5, temperature=0.0, concurrency=1, batch=True)
    prompts = [[{"role": "user", "content": str(number)}] for number in range(9)]
    said: list[str] = []
    for _ in range(2):  # the second time from the cache
        with (
            server(lambda body: (200, completion(f"<{question_of(body)}>"), {})) as address,
            connect(Provider(name="compatible", base_url="http://fixed/v1")) as connection,
        ):
            connection.client.base_url = address
            answers = answer_all(connection, "batch-model", prompts, settings, 1, lambda *_: None, said.append)
        assert [answer.text for answer in answers] == [f"<{n}>" if n != 7 else "" for n in range(9)]
        assert answers[7].error == "string_too_long: Too long."
    first, second, third = batches
    assert (len(first), len(second), len(third)) == (9, 8, 1)
    assert not first.keys() & second.keys()  # else the first batch, of errors, would be found again
    assert all("temperature" not in request for request in second.values())
    assert any("without it" in line for line in said)


def test_a_batch_of_cleared_answers_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[str]] = []

    def batch(_connection: Any, requests: dict[str, dict[str, Any]], *_: Any) -> dict[str, Any]:
        batches.append(list(requests))
        return {key: completion("yes") for key in requests}

    monkeypatch.setattr(completions, "answer_batch", batch)
    settings = Evaluate(max_tokens=5, temperature=0.0, concurrency=1, batch=True)
    with server(lambda _: (200, completion("yes"), {})) as address:
        for _ in range(2):
            with connect(Provider(name="compatible", base_url=address)) as connection:
                answer_all(connection, "m", [[{"role": "user", "content": "?"}]], settings, 1, lambda *_: None, print)
            with open_answer_cache() as cache:
                assert cache.clear(None) == 1
    assert batches[0] != batches[1]


def test_an_interrupt_waits_for_the_answers_on_their_way_says_so_and_keeps_them() -> None:
    said: list[str] = []
    asked: list[str] = []
    all_asked, interrupted = threading.Event(), threading.Event()

    def reply(body: dict[str, Any]) -> Reply:
        asked.append(question_of(body))
        if len(asked) == 4:
            all_asked.set()
        assert (all_asked if question_of(body) == "0" else interrupted).wait(10)
        return 200, completion("yes"), {}

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def say(text: str) -> None:
        said.append(text)
        interrupted.set()

    settings = Evaluate(max_tokens=5, temperature=0.0, concurrency=4)
    prompts = [[{"role": "user", "content": str(number)}] for number in range(4)]
    with server(reply) as address, connect(Provider(name="compatible", base_url=address)) as connection:
        with pytest.raises(KeyboardInterrupt):
            answer_all(connection, "m", prompts, settings, 1, interrupt, say)
        assert "Waiting for up to 3 answers on their way" in said[0]
        answer_all(connection, "m", prompts, settings, 1, lambda *_: None, print)
    assert [asked.count(question) for question in "123"] == [1, 1, 1]  # the first one probes which model answers now


def test_an_answer_is_replaced_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the answer of a former model would be taken for one of the present model."""
    with open_answer_cache() as cache:
        cache.put("k", Answer("old", model="m1"), "p", "prod")
        monkeypatch.setattr("finetune.provider.answer_cache.json.dumps", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cache.put("k", Answer("new", model="m2"), "p", "prod")
        found = cache.get("k")
        assert found
        assert (found.text, found.model) == ("old", "m1")


def test_models_that_answer_by_turns_are_not_paid_again() -> None:
    """A gateway may name the replica that answered; each run asked half of the questions again."""
    asked: list[Any] = []

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        asked.append(body)
        return 200, completion("yes") | {"model": f"replica-{len(asked) % 2}"}, {}

    with server(reply) as address:
        ask(address, 20, concurrency=1)
        ask(address, 20, concurrency=1)
    assert len(asked) <= 21  # one finds out what answers now


def test_an_answer_in_parts_is_their_text() -> None:
    """Mistral's reasoning models answer so: the parts of thinking are no answer."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "yes"}]
    body = completion("")
    body["choices"][0]["message"]["content"] = parts
    with server(lambda _: (200, body, {})) as address:
        assert [answer.text for answer in ask(address, 2)] == ["yes", "yes"]


@pytest.mark.parametrize("kind", ["refusal", "content_filter"])
def test_refusals_are_marked_and_stay_so_in_the_cache(kind: str) -> None:
    """The forms are those of OpenAI's reference: `message.refusal`, and the finish reason `content_filter`."""
    body = completion("I am", finish_reason="content_filter" if kind == "content_filter" else "stop")
    if kind == "refusal":
        body["choices"][0]["message"] |= {"content": None, "refusal": "I cannot help with that."}
    with server(lambda _: (200, body, {})) as address:
        for _ in range(2):
            (answer,) = ask(address, 1)
            assert answer.refused
            assert answer.text == ("I am" if kind == "content_filter" else "I cannot help with that.")
            assert not answer.error
