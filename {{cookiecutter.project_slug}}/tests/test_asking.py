"""Asking many times: no row lost, the order kept, the provider's limits heeded, nothing asked twice."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, refusal, server

from finetune.core.errors import FinetuneError
from finetune.core.params import Evaluate, Provider
from finetune.provider.answer_cache import Answer
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


def said(body: dict[str, Any]) -> str:
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
        told = {"x-ratelimit-limit-requests": "6000", "x-ratelimit-remaining-requests": str(left)}
        return 200, completion(f"answer {said(body)}"), told

    with server(limited) as address:
        start = time.monotonic()
        answers = ask(address, 200, concurrency=64)
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(200)]
    assert state["refused"] < 100  # the pace was learnt: without it, each waiting request knocks again and again
    assert time.monotonic() - start > 1.5  # 100 a second


def test_fewer_are_sent_at_once_where_nobody_says_what_is_allowed() -> None:
    lock, state = threading.Lock(), {"now": 0, "refused": 0}

    def crowded(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        with lock:
            state["now"] += 1
            full = state["now"] > 8
            state["refused"] += full
        time.sleep(0.01)
        with lock:
            state["now"] -= 1
        return (429, refusal("slow_down"), {"retry-after": "0.05"}) if full else (200, completion(said(body)), {})

    with server(crowded) as address:
        answers = ask(address, 300, concurrency=32)
    assert [answer.text for answer in answers] == [str(number) for number in range(300)]
    assert state["refused"] < 300


def test_a_row_that_is_refused_for_good_is_told_and_asked_again_next_time() -> None:
    asked: list[str] = []

    def picky(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        asked.append(said(body))
        if said(body) == "3":
            return 400, refusal("content_filter", "We do not answer this."), {}
        return 200, completion("yes"), {"openai-processing-ms": "120"}

    with server(picky) as address:
        answers = ask(address, 30)
        assert [number for number, answer in enumerate(answers) if answer.error] == [3]
        assert answers[3].error == "400 content_filter: We do not answer this."
        assert {answer.seconds for answer in answers if not answer.error} == {0.12}
        ask(address, 30)
    assert len(asked) == 31  # the others are kept


def test_all_refused_is_an_error_soon_and_not_a_metric() -> None:
    asked: list[str] = []

    def never(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        asked.append(said(body))
        return 400, refusal("unsupported_parameter", "This server does not support 'logprobs'."), {}

    with server(never) as address, pytest.raises(FinetuneError, match="logprobs"):
        ask(address, 500, top_logprobs=5)
    assert len(asked) < 100


def test_stumbles_are_tried_again_and_what_no_row_can_pass_ends_the_run() -> None:
    times: dict[str, int] = {}

    def stumbling(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        times[said(body)] = times.get(said(body), 0) + 1
        return (503, refusal("server_error"), {}) if times[said(body)] == 1 else (200, completion("yes"), {})

    with server(stumbling) as address:
        assert {answer.text for answer in ask(address, 20)} == {"yes"}
    assert set(times.values()) == {2}
    with (
        server(lambda body: (429, refusal("insufficient_quota"), {})) as address,
        pytest.raises(FinetuneError, match="Add credit"),
    ):
        ask(address, 20)


def test_a_run_that_was_stopped_goes_on_where_it_was() -> None:
    asked: list[str] = []
    most = [40]

    def until_revoked(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if len(asked) >= most[0]:
            return 401, refusal("invalid_api_key"), {}
        asked.append(said(body))
        return 200, completion("yes"), {}

    with server(until_revoked) as address:
        with pytest.raises(FinetuneError, match="Check FINETUNE_API_KEY"):
            ask(address, 100, concurrency=4)
        most[0] = 1000
        assert len(ask(address, 100, concurrency=4)) == 100
    assert 100 <= len(asked) <= 104  # those under way when it was stopped may have been asked again


def test_log_probabilities_may_be_no_numbers() -> None:
    top = [{"token": "yes", "logprob": float("nan"), "bytes": None}]
    told = {"content": [{"token": "yes", "logprob": None, "bytes": None, "top_logprobs": top}]}

    with server(lambda body: (200, completion("yes", logprobs=told), {})) as address:
        answers = [*ask(address, 1, top_logprobs=5), *ask(address, 1, top_logprobs=5)]  # the second is the kept one
    for answer in answers:
        assert answer.text == "yes"
        assert answer.logprobs == [[("yes", None)] * 2]
