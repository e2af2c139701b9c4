"""LiteLLM: chat, streams, completions of prompts, files, fine-tuning, batches."""

import asyncio
import json
from pathlib import Path
from typing import Any

import litellm
import pytest
from conftest import MODEL, QUESTION, TINY, Server, batch_file, training_file, wait_for

CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}


@pytest.fixture(scope="module")
def chat(server: Server) -> dict[str, Any]:
    return {"model": f"openai/{MODEL}", "messages": QUESTION, "temperature": 0, "max_tokens": 30, **address(server)}


def address(server: Server) -> dict[str, str]:
    return {"api_base": server.url, "api_key": server.key}


def test_chat(chat: dict[str, Any], server: Server) -> None:
    answer = litellm.completion(**chat)
    assert answer.choices[0].message.content == server.text(QUESTION, max_tokens=30)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens > 3


def test_async(chat: dict[str, Any], server: Server) -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(litellm.acompletion(**chat) for _ in range(4)))

    answers = asyncio.run(ask())
    assert {answer.choices[0].message.content for answer in answers} == {server.text(QUESTION, max_tokens=30)}


def test_stream(chat: dict[str, Any], server: Server) -> None:
    chunks = list(litellm.completion(**chat, stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) > 3
    assert "".join(texts) == server.text(QUESTION, max_tokens=30)
    whole = litellm.stream_chunk_builder(chunks, messages=QUESTION)
    assert whole.choices[0].finish_reason == "stop"
    usage = server.chat(QUESTION, max_tokens=30)["usage"]
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )


def test_settings(chat: dict[str, Any]) -> None:
    settings = {"n": 2, "stop": ["."], "seed": 1, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1}
    answer = litellm.completion(**{**chat, "temperature": 1}, **settings, logprobs=True, top_logprobs=2, user="someone")
    assert len(answer.choices) == 2
    for choice in answer.choices:
        assert "." not in choice.message.content
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)


def test_text_completion(server: Server) -> None:
    prompt = "One, two,"
    settings: dict[str, Any] = {"prompt": prompt, "temperature": 0, "max_tokens": 4, **address(server)}
    answer = litellm.text_completion(model=f"text-completion-openai/{MODEL}", **settings, logprobs=2)
    plain = server.ask("/completions", {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 4})
    assert answer.choices[0].text == plain["choices"][0]["text"]
    assert "three" in answer.choices[0].text
    stream = litellm.text_completion(model=f"text-completion-openai/{MODEL}", **settings, stream=True)
    assert "".join(chunk.choices[0].text or "" for chunk in stream if chunk.choices) == answer.choices[0].text


def test_errors_are_of_their_kinds(chat: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**{**chat, "model": "openai/gpt-none"})
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(**{**chat, "api_key": "another"})
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**{**chat, "messages": [{"role": "user", "content": "word " * 9000}]})


def test_tools(chat: dict[str, Any]) -> None:
    answer = litellm.completion(
        **{**chat, "max_tokens": 60}, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    (call, *_) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}


def test_response_format(chat: dict[str, Any]) -> None:
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    answer = litellm.completion(**chat, response_format=form)
    assert set(json.loads(answer.choices[0].message.content)) == {"capital"}


def test_files_and_a_fine_tune(server: Server, tmp_path: Path) -> None:
    provider = {"custom_llm_provider": "openai", **address(server)}
    with training_file(tmp_path).open("rb") as content:
        file = litellm.create_file(file=content, purpose="fine-tune", **provider)
    assert litellm.file_retrieve(file_id=file.id, **provider).status == "processed"
    assert file.id in [one.id for one in litellm.file_list(**provider)]
    job = litellm.create_fine_tuning_job(
        model=TINY, training_file=file.id, hyperparameters={"n_epochs": 1}, suffix="litellm", seed=3, **provider
    )
    job = wait_for(lambda: litellm.retrieve_fine_tuning_job(fine_tuning_job_id=job.id, **provider))
    assert job.status == "succeeded", job.error
    assert ":litellm:" in job.fine_tuned_model
    assert job.id in [one.id for one in litellm.list_fine_tuning_jobs(**provider)]
    answer = litellm.completion(
        model=f"openai/{job.fine_tuned_model}", messages=QUESTION, max_tokens=3, **address(server)
    )
    assert answer.usage.completion_tokens <= 3
    assert b"train_loss" in litellm.file_content(file_id=job.result_files[0], **provider).content
    assert litellm.file_delete(file_id=file.id, **provider).deleted


def test_batch(server: Server, tmp_path: Path) -> None:
    provider = {"custom_llm_provider": "openai", **address(server)}
    with batch_file(tmp_path).open("rb") as content:
        file = litellm.create_file(file=content, purpose="batch", **provider)
    batch = litellm.create_batch(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file.id, **provider
    )
    batch = wait_for(lambda: litellm.retrieve_batch(batch_id=batch.id, **provider))
    assert (batch.status, batch.request_counts.completed) == ("completed", 2)
    lines = litellm.file_content(file_id=batch.output_file_id, **provider).text.splitlines()
    said = {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"]
        for line in map(json.loads, lines)
    }
    assert said["question-1"] == server.text(QUESTION, max_tokens=5)
