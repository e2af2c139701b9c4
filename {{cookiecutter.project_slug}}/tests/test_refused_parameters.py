"""Sampling parameters that a model refuses: not sent where that is known, else dropped once and remembered."""

import json
from typing import Any

import httpx2
import openai
import pytest

from finetune.provider.completion_request import reasons, taken_by_model
from finetune.provider.rate_limits import RateLimiter
from finetune.provider.retries import request_answer


@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini-2025-08-07", "openai/o3"]
)
def test_reasoning_models_are_asked_without_sampling_parameters(model: str) -> None:
    taken = taken_by_model({"model": model, "temperature": 0, "seed": 1, "max_tokens": 5, "messages": []})
    assert taken == {"model": model, "max_completion_tokens": 5, "messages": []}


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "oasst", "llama-o1x", "o10b"])
def test_other_models_are_asked_as_before(model: str) -> None:
    request = {"model": model, "temperature": 0, "seed": 1, "max_tokens": 5, "messages": []}
    assert not reasons(model)
    assert taken_by_model(request) == request


def a_server(refuses: dict[str, dict[str, Any]], asked: list[dict[str, Any]]) -> openai.OpenAI:
    """Return a client of a server that answers 400 with an error for each of some parameters."""

    def handle(http: httpx2.Request) -> httpx2.Response:
        body = json.loads(http.content)
        asked.append(body)
        for name, error in refuses.items():
            if name in body:
                return httpx2.Response(400, json={"error": error})
        message = {"role": "assistant", "content": "A"}
        return httpx2.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}})

    transport = httpx2.MockTransport(handle)
    return openai.OpenAI(api_key="x", base_url="http://server/v1", http_client=httpx2.Client(transport=transport))


def test_parallel_tool_calls_are_optional_and_tools_are_not() -> None:
    asked: list[dict[str, Any]] = []
    refuses = {name: {"message": f"Unsupported parameter: '{name}'"} for name in ("parallel_tool_calls", "tools")}
    request = {"model": "new-2", "messages": [], "tools": [], "parallel_tool_calls": False}
    with pytest.raises(openai.BadRequestError, match="'tools'"):
        request_answer(a_server(refuses, asked), request, RateLimiter(1))
    assert [sorted(body) for body in asked] == [sorted(request), ["messages", "model", "tools"]]


def test_a_parameter_that_the_server_names_is_dropped_once_and_remembered() -> None:
    asked: list[dict[str, Any]] = []
    client = a_server(
        {
            "temperature": {"message": "Unsupported value: 'temperature' does not support 0.", "param": "temperature"},
            "max_tokens": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."},
        },
        asked,
    )
    request = {"model": "new-1", "temperature": 0, "seed": 3, "max_tokens": 9, "messages": []}
    assert request_answer(client, request, RateLimiter(1)).text == "A"
    assert len(asked) == 3
    assert asked[-1] == {"model": "new-1", "seed": 3, "max_completion_tokens": 9, "messages": []}
    assert request_answer(client, request, RateLimiter(1)).text == "A"
    assert len(asked) == 4


@pytest.mark.parametrize(
    "error",
    [
        {"message": "This prompt is too long for 'temperature' and all else."},
        {"message": "Unsupported parameter: 'stop'.", "param": "stop"},
    ],
)
def test_any_other_refusal_is_raised(error: dict[str, Any]) -> None:
    asked: list[dict[str, Any]] = []
    client = a_server({"stop": error}, asked)
    with pytest.raises(openai.BadRequestError):
        request_answer(client, {"model": "new-2", "stop": ".", "temperature": 0, "messages": []}, RateLimiter(1))
    assert len(asked) == 1
