"""langchain-openai: its chat model, and its model of completions."""

import asyncio
from typing import Any

import pytest
from conftest import MODEL, QUESTION, Server
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI
from pydantic import BaseModel, Field

TEXT = QUESTION[0]["content"]


class Capital(BaseModel):
    """The capital of a country."""

    country: str = Field(max_length=20)
    capital: str = Field(max_length=20)


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"Sunny in {city}"


def model(server: Server, **more: Any) -> ChatOpenAI:
    settings = {"model": MODEL, "base_url": server.url, "api_key": server.key, "temperature": 0, "max_tokens": 30}
    return ChatOpenAI(**{**settings, "max_retries": 0, **more})


def test_invoke(server: Server) -> None:
    answer = model(server).invoke(TEXT)
    plain = server.chat(QUESTION, max_tokens=30)
    assert answer.content == plain["choices"][0]["message"]["content"]
    assert "Paris" in answer.content
    assert answer.usage_metadata["output_tokens"] == plain["usage"]["completion_tokens"]
    assert answer.response_metadata["finish_reason"] == "stop"


def test_messages_of_all_kinds(server: Server) -> None:
    messages = [SystemMessage("Answer with one word."), HumanMessage("Hi"), AIMessage("Hello"), HumanMessage(TEXT)]
    roles = ["system", "user", "assistant", "user"]
    plain = [{"role": role, "content": message.content} for role, message in zip(roles, messages, strict=True)]
    assert model(server).invoke(messages).content == server.text(plain, max_tokens=30)


def test_stream(server: Server) -> None:
    chunks = list(model(server).stream(TEXT))
    assert len([chunk for chunk in chunks if chunk.content]) > 3
    assert "".join(chunk.content for chunk in chunks) == server.text(QUESTION, max_tokens=30)


def test_stream_with_usage(server: Server) -> None:
    chunks = list(model(server, stream_usage=True).stream(TEXT))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    usage = server.chat(QUESTION, max_tokens=30)["usage"]
    assert whole.usage_metadata["total_tokens"] == usage["total_tokens"]


def test_batch_and_async(server: Server) -> None:
    questions = [f"What is {n} plus {n}?" for n in range(4)]
    alone = [server.text([{"role": "user", "content": one}], max_tokens=8) for one in questions]
    short = model(server, max_tokens=8)
    assert [answer.content for answer in short.batch(questions)] == alone
    assert [answer.content for answer in asyncio.run(short.abatch(questions))] == alone


def test_logprobs(server: Server) -> None:
    answer = model(server).bind(logprobs=True, top_logprobs=2).invoke(TEXT)
    tokens = answer.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == answer.content
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)


def test_penalties_and_other_settings(server: Server) -> None:
    settings: Any = {"presence_penalty": 1.5, "frequency_penalty": 1.5, "top_p": 0.8, "seed": 4, "n": 2, "stop": ["!"]}
    results = [model(server, temperature=1, **settings).generate([[HumanMessage(TEXT)]]) for _ in range(2)]
    texts = [[choice.text for choice in result.generations[0]] for result in results]
    assert len(texts[0]) == 2
    assert texts[0] == texts[1]


def test_content_parts(server: Server) -> None:
    message = HumanMessage([{"type": "text", "text": TEXT}])
    assert model(server).invoke([message]).content == server.text(QUESTION, max_tokens=30)


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output(server: Server, method: Any) -> None:
    asked = model(server, max_tokens=100).with_structured_output(
        Capital if method != "json_mode" else None, method=method, include_raw=True
    )
    found = asked.invoke(TEXT if method != "json_mode" else f"{TEXT} Answer as JSON.")
    assert found["parsing_error"] is None
    assert isinstance(found["parsed"], dict if method == "json_mode" else Capital)


def test_tools(server: Server) -> None:
    messages: list[Any] = [HumanMessage("What is the weather in Paris?")]
    asked = model(server, max_tokens=200).bind_tools([get_weather], tool_choice="required", parallel_tool_calls=False)
    answer = asked.invoke(messages)
    assert answer.response_metadata["finish_reason"] == "tool_calls", answer.content
    assert [call["name"] for call in answer.tool_calls] == ["get_weather"] * len(answer.tool_calls)
    assert not answer.invalid_tool_calls
    chunks = list(asked.stream(messages))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [call["args"] for call in whole.tool_calls] == [call["args"] for call in answer.tool_calls]
    messages += [answer, *(ToolMessage("Sunny", tool_call_id=call["id"]) for call in answer.tool_calls)]
    assert model(server).bind_tools([get_weather], tool_choice="none").invoke(messages).content


def test_completions(server: Server) -> None:
    prompt = "One, two,"
    legacy = OpenAI(model=MODEL, base_url=server.url, api_key=server.key, temperature=0, max_tokens=4, max_retries=0)
    plain = server.ask("/completions", {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 4})
    assert legacy.invoke(prompt) == plain["choices"][0]["text"]
    assert "".join(legacy.stream(prompt)) == plain["choices"][0]["text"]
    assert len(legacy.generate([prompt, "Monday,"]).generations) == 2


def test_azure(server: Server) -> None:
    asked = AzureChatOpenAI(
        azure_endpoint=server.url.removesuffix("/v1"), azure_deployment=MODEL, api_version="2024-10-21",
        api_key=server.key, temperature=0, max_tokens=30, max_retries=0,
    )  # fmt: skip
    assert asked.invoke(TEXT).content == server.text(QUESTION, max_tokens=30)
    assert "".join(chunk.content for chunk in asked.stream(TEXT)) == server.text(QUESTION, max_tokens=30)
