"""Streams of completions: the same answers as without a stream, and nothing is computed after a client leaves."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
from conftest import PATIENCE

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.generation_types import Delta, GenerationRequest
from finetune.engine.inference.generator import Generator
from finetune.engine.inference.prompts import cache_bytes_a_token
from finetune.engine.store import Store

CHAT: Any = [{"role": "user", "content": "paint it red"}]
# The tiny base's tokens are bytes, so most of its answers have parts of characters.
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1, "seed": 3},
    {"temperature": 1, "seed": 5, "n": 3},
    {"temperature": 1, "seed": 6, "logprobs": True, "top_logprobs": 2},
    {"temperature": 1.5, "seed": 7, "stop": ["e", "a", "\x05"]},
]


def streamed(client: openai.OpenAI, **settings: Any) -> tuple[dict[int, str], dict[int, str], list[Any], Any]:
    """Return the texts, the finish reasons and the reported tokens of each choice of a stream, and its usage."""
    texts: dict[int, str] = {}
    ends: dict[int, str] = {}
    tokens: list[Any] = []
    usage = None
    for chunk in client.chat.completions.create(
        model="tiny", messages=CHAT, max_tokens=24, stream=True, stream_options={"include_usage": True}, **settings
    ):
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert choice.index not in ends
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            tokens += choice.logprobs.content or [] if choice.logprobs else []
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    return texts, ends, tokens, usage


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_stream_has_the_whole_answer(client: openai.OpenAI, settings: dict[str, Any]) -> None:
    whole = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=24, **settings)
    texts, ends, tokens, usage = streamed(client, **settings)
    assert texts == {one.index: one.message.content for one in whole.choices}
    assert ends == {one.index: one.finish_reason for one in whole.choices}
    assert usage == whole.usage
    expected = whole.choices[0].logprobs
    assert tokens == (expected.content if expected else [])


def test_the_helper_of_the_sdk_reads_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="tiny", messages=CHAT, max_tokens=9, temperature=0) as stream:
        kinds = [event.type for event in stream]
        found = stream.get_final_completion()
    whole = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=9, temperature=0)
    assert found.choices[0].message.content == whole.choices[0].message.content
    assert "content.delta" in kinds


def test_the_events_of_a_stream_end_with_done(client: openai.OpenAI) -> None:
    body = {"model": "tiny", "messages": CHAT, "max_tokens": 3, "stream": True}
    answer = httpx.post(
        f"{client.base_url}chat/completions", json=body, headers={"authorization": f"Bearer {client.api_key}"}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "x-request-id" in answer.headers
    *chunks, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    parsed = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    assert parsed[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert parsed[-1]["choices"][0]["finish_reason"]
    assert not any("usage" in chunk for chunk in parsed)
    assert len({chunk["id"] for chunk in parsed}) == 1


def test_what_is_refused_is_no_stream(client: openai.OpenAI) -> None:
    many: Any = [{"role": "user", "content": "x" * 1100}]
    with pytest.raises(openai.BadRequestError, match="1024 tokens; the prompt has 1") as refused:
        client.chat.completions.create(model="tiny", messages=many, stream=True)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=CHAT, stream=True)
    with pytest.raises(openai.BadRequestError, match="stream_options"):
        client.chat.completions.create(
            model="tiny",
            messages=CHAT,
            stream_options={"include_usage": True},
        )


def test_a_text_beyond_any_context_is_refused_before_it_is_tokenised(client: openai.OpenAI) -> None:
    began = time.monotonic()
    with pytest.raises(openai.BadRequestError, match="maximum context length is 1024 tokens; the prompt has over"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 4_000_000}])
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("stop", ["é", "aé", "ée", "日本"])
def test_a_delta_has_no_part_of_a_stop_sequence_or_of_a_character(home: Path, stop: str) -> None:
    from types import SimpleNamespace

    from finetune.engine.inference.sampling import next_delta

    state: Any = SimpleNamespace(
        text="", sent_text="", sent_tokens=0, reported_tokens=[], finish_reason=None, prompt_text="",
        tool_format=None,
        request=SimpleNamespace(stop=(stop,)),
    )  # fmt: skip
    whole = "caféau 日本語".encode()
    sent = ""
    for end in range(1, len(whole) + 1):
        state.text = whole[:end].decode("utf-8", "replace")
        if stop in state.text:
            state.text, state.finish_reason = state.text[: state.text.index(stop)], "stop"
        elif end == len(whole):
            state.finish_reason = "length"
        delta: Delta = next_delta(state)
        sent += delta.text
        assert whole.decode().startswith(sent)
        if state.finish_reason:
            break
    assert sent == whole.decode().split(stop)[0]


def wait_until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def generator(home: Path) -> Any:
    found = Generator(Store(home))
    yield found
    found.close()


def request(max_tokens: int, **more: Any) -> GenerationRequest:
    """Return a request that never ends before `max_tokens`."""
    return GenerationRequest("tiny", CHAT, max_tokens, 0, 1, 0, (), None, logit_bias=((0, -100.0),), **more)


def test_a_short_request_does_not_wait_for_long_ones(generator: Generator) -> None:
    generator.submit(request(1)).result(timeout=60)  # loads the base
    group = object()
    long = [generator.submit(request(450), group=group) for _ in range(100)]
    wait_until(lambda: len(generator.running) == 100 and all(state.generated_ids for state in generator.running))
    before = generator.passes
    generator.submit(request(2)).result(timeout=60)
    assert generator.passes - before <= 6
    assert not any(future.done() for future in long)
    for future in long:
        future.cancel()
    wait_until(lambda: not generator.running)


def allow_memory_for(tokens: int, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(generator.store.home / "bases" / "tiny")
    allowed = tokens * cache_bytes_a_token(config)
    monkeypatch.setattr("finetune.engine.inference.generator.MAX_RESERVED", allowed)


@pytest.mark.slow
def test_requests_beyond_the_memory_wait_and_are_answered(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_memory_for(300, generator, monkeypatch)
    most = []
    futures = [generator.submit(request(100), lambda _: most.append(len(generator.running))) for _ in range(9)]
    assert {future.result(timeout=60).completion_tokens for future in futures} == {100}
    assert max(most) == 2


@pytest.mark.slow
def test_many_long_choices_leave_memory_for_others(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_memory_for(2000, generator, monkeypatch)
    generator.submit(request(1)).result(timeout=60)  # loads the base
    group = object()
    long = [generator.submit(request(400), group=group) for _ in range(20)]
    wait_until(lambda: generator.running and all(state.generated_ids for state in generator.running))
    generator.submit(request(2)).result(timeout=60)
    assert not any(future.done() for future in long)
    for future in long[1:]:
        future.cancel()
    assert long[0].result(timeout=60).completion_tokens == 400


def test_scores_of_a_prompt_do_not_wait_for_long_answers(generator: Generator) -> None:
    generator.submit(request(1)).result(timeout=60)
    group = object()
    long = [generator.submit(request(900), group=group) for _ in range(50)]
    wait_until(lambda: len(generator.running) == 50 and all(state.generated_ids for state in generator.running))
    generator.submit(request(1, prompt_logprobs=1)).result(timeout=60)
    assert not any(future.done() for future in long)
    for future in long:
        future.cancel()


@pytest.mark.parametrize("scores", [None, 1])
def test_a_short_prompt_does_not_wait_for_the_many_of_another_request(generator: Generator, scores: int | None) -> None:
    generator.submit(request(1)).result(timeout=60)
    group = object()
    many = [
        generator.submit(
            GenerationRequest("tiny", f"{number:<900}", 1, 0, 1, 0, (), None, prompt_logprobs=scores), group=group
        )
        for number in range(60)
    ]
    wait_until(lambda: len(generator.running) > 50)
    before = generator.passes
    generator.submit(request(1)).result(timeout=60)
    assert generator.passes - before <= 12
    assert not many[-1].done()
    for future in many:
        future.cancel()


def test_an_answer_ends_when_its_client_goes_away(client: openai.OpenAI, generator: Generator) -> None:
    """Whether it streams or not, the server has nothing to do a moment later."""
    body: Any = {"model": "tiny", "messages": CHAT, "max_tokens": 900, "n": 20, "logit_bias": {"0": -100}}
    impatient = client.with_options(timeout=0.3, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(**body)
    with client.chat.completions.create(**body, stream=True) as stream:
        next(iter(stream))
    began = time.monotonic()
    client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=2)
    alone = time.monotonic() - began
    assert alone < 3


def test_a_cancelled_answer_leaves_the_next_pass(generator: Generator) -> None:
    seen = threading.Event()
    future = generator.submit(request(900), lambda _: seen.set())
    assert seen.wait(60)
    before = generator.passes
    future.cancel()
    wait_until(lambda: not generator.running)
    assert generator.passes - before < 100
    with pytest.raises(ApiError):
        generator.submit(GenerationRequest("nobody", CHAT, 2, 0, 1, 0, (), None)).result(timeout=60)


def test_bias_forces_and_forbids_tokens(client: openai.OpenAI) -> None:
    def text(**bias: float) -> Any:
        answer = client.chat.completions.create(
            model="tiny",
            messages=CHAT,
            max_tokens=5,
            temperature=0,
            logit_bias=bias,  # type: ignore[arg-type]
        )
        return answer.choices[0].message.content

    forced = text(**{"40": 100})
    assert len(set(forced)) == 1
    assert forced[0] not in text(**{"40": -100})
    for wrong in ({"a": 1.0}, {"-1": 1.0}, {"4": 101.0}):
        with pytest.raises(openai.BadRequestError, match="logit_bias"):
            text(**wrong)
