"""One retry policy: a stage and `finetune chat` send the same requests when a provider fails."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, refusal, server
from test_predict import write_params

from finetune.asking import conversation
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.sections.provider import Provider
from finetune.provider import completions, retries
from finetune.provider.connect import connect
from finetune.provider.rate_limits import RateLimiter

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def _short_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_API_KEY", "k")
    monkeypatch.setattr(retries, "LONGEST_PAUSE", 0.01)


@pytest.mark.parametrize(
    ("status", "code", "failures", "requests", "answered"),
    [
        (503, "server_error", 99, retries.ATTEMPTS, False),
        (409, "conflict", 99, retries.ATTEMPTS, False),
        (503, "server_error", 1, 2, True),
        (429, "rate_limit_exceeded", 1, 2, True),
        (429, "insufficient_quota", 99, 1, False),
        (400, "content_filter", 99, 1, False),
        (401, "invalid_api_key", 99, 1, False),
    ],
)
def test_a_stage_and_chat_retry_alike(status: int, code: str, failures: int, requests: int, answered: bool) -> None:
    for ask in (completions.ask, conversation.ask):
        seen: list[int] = []

        def failing(body: dict[str, Any], seen: list[int] = seen) -> tuple[int, dict[str, Any], dict[str, str]]:
            seen.append(1)
            if len(seen) > failures:
                return 200, completion("yes"), {}
            return status, refusal(code), {"retry-after-ms": "10"}

        error = ""
        with server(failing) as address:
            try:
                with connect(Provider(name="compatible", base_url=address)) as connection:
                    answer = ask(connection, REQUEST, RateLimiter(1))
                    error = answer.error
            except FinetuneError as raised:
                error = str(raised)
        assert len(seen) == requests, ask
        assert (error == "") is answered


def test_an_interrupted_chat_sends_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the interrupted request continues, and must not send the request again."""
    monkeypatch.setattr(retries, "LONGEST_PAUSE", 0.2)
    seen: list[int] = []
    first = threading.Event()

    def failing(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        seen.append(1)
        first.set()
        return 503, refusal("server_error"), {}

    def interrupt(*_: Any, **__: Any) -> None:
        assert first.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(conversation, "wait", interrupt)
    with server(failing) as address, connect(Provider(name="compatible", base_url=address)) as connection:
        write_params(address=address)
        talk = conversation.Conversation({"tuned": "m"}, None)
        with pytest.raises(KeyboardInterrupt):
            conversation.send(talk, connection, load_params(), "hello")
        time.sleep(0.5)
    assert len(seen) == 1
