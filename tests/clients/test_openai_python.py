"""The OpenAI SDK for Python, with strict validation of answers; its client for Azure."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import MODEL, QUESTION, TINY, Server, batch_file, training_file, wait_for
from pydantic import BaseModel

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Capital(BaseModel):
    country: str
    capital: str


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=server.url, api_key=server.key, max_retries=0, _strict_response_validation=True
    ) as found:
        yield found


@pytest.fixture(scope="module")
def lenient(client: openai.OpenAI) -> openai.OpenAI:
    """Return the client as users have it. In completions, the SDK's types forbid the nulls that OpenAI itself sends:
    the log-probability of a prompt's first token, and the finish reason of a stream's chunks.
    """
    return openai.OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)


def test_chat(client: openai.OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_completion_tokens=30)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.content == server.text(QUESTION, max_tokens=30)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_limit_is_a_finish_reason(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=2)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 2)


def test_choices_penalties_and_bias(client: openai.OpenAI) -> None:
    def texts(**more: Any) -> list[str]:
        answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=8, seed=3, n=3, **more)
        return [choice.message.content for choice in answer.choices]

    assert texts(top_p=0.9, presence_penalty=0.5, frequency_penalty=-0.5) == texts(
        top_p=0.9, presence_penalty=0.5, frequency_penalty=-0.5
    )
    assert len(set(texts(temperature=1.5))) > 1
    assert texts(logit_bias={"28": 100}) == texts(logit_bias={"28": 100}, temperature=0.1)


def test_neutral_values_pass(client: openai.OpenAI, server: Server) -> None:
    neutral: Any = {
        "logit_bias": {}, "tools": [], "tool_choice": "none", "parallel_tool_calls": True, "modalities": ["text"],
        "response_format": {"type": "text"}, "stop": None, "n": 1, "store": False, "service_tier": "auto",
        "presence_penalty": 0, "frequency_penalty": 0, "user": "someone", "metadata": {"of": "clients"},
    }  # fmt: skip
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=12, **neutral)
    assert answer.choices[0].message.content == server.text(QUESTION, max_tokens=12)


def test_content_parts(client: openai.OpenAI, server: Server) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]}]
    answer = client.chat.completions.create(model=MODEL, messages=parts, temperature=0, max_tokens=12)
    assert answer.choices[0].message.content == server.text(QUESTION, max_tokens=12)


def test_stream(client: openai.OpenAI, server: Server) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(texts) > 3
    assert "".join(texts) == server.text(QUESTION, max_tokens=12)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not last.choices
    assert last.usage.completion_tokens > 3


def test_stream_helper(client: openai.OpenAI, server: Server) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=30, logprobs=True, top_logprobs=2
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    assert final.choices[0].message.content == server.text(QUESTION, max_tokens=30)
    assert "".join(token.token for token in final.choices[0].logprobs.content) == final.choices[0].message.content


def test_a_stream_that_is_left_frees_the_server(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=QUESTION, logit_bias={"2": -100}, max_tokens=1500, stream=True
    ) as stream:
        next(iter(stream))
    answer = client.with_options(timeout=20).chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=2)
    assert answer.usage.completion_tokens == 2


def test_async(server: Server) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=server.url, api_key=server.key, max_retries=0, _strict_response_validation=True
        ) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=6)
                    for _ in range(8)
                )
            )
        return [answer.choices[0].message.content for answer in answers]

    assert asyncio.run(ask()) == [server.text(QUESTION, max_tokens=6)] * 8


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    assert all(token.logprob == token.top_logprobs[0].logprob for token in tokens)
    assert all(len(token.top_logprobs) == 3 for token in tokens)


def test_completions(lenient: openai.OpenAI, reference: Any) -> None:
    prompt, word = "The capital of France is", " Paris"
    answer = lenient.completions.create(
        model=MODEL, prompt=prompt + word, max_tokens=0, echo=True, logprobs=1, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text == "".join(logprobs.tokens) == prompt + word
    assert logprobs.text_offset[-1] == len(prompt)
    assert logprobs.token_logprobs[0] is None
    assert logprobs.token_logprobs[-1] == pytest.approx(reference([prompt], [word])[0]["logprob"], abs=0.1)


def test_completions_of_several_prompts(client: openai.OpenAI, lenient: openai.OpenAI) -> None:
    prompts = ["One, two,", "Monday, Tuesday,"]
    both = client.completions.create(model=MODEL, prompt=prompts, max_tokens=4, temperature=0, n=1)
    alone = [client.completions.create(model=MODEL, prompt=one, max_tokens=4, temperature=0) for one in prompts]
    assert [choice.text for choice in both.choices] == [one.choices[0].text for one in alone]
    assert "three" in both.choices[0].text
    stream = lenient.completions.create(model=MODEL, prompt=prompts[0], max_tokens=4, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == both.choices[0].text


def test_parsed_answers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=60, response_format=Capital
    )
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(answer.choices[0].message.parsed, Capital)
    assert answer.choices[0].message.parsed.model_dump() == json.loads(answer.choices[0].message.content)


def test_json_object(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Answer as JSON: What is the capital of France?"}]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, max_tokens=100, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_tools(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    settings: Any = {
        "model": MODEL,
        "temperature": 0,
        "max_tokens": 60,
        "tools": [WEATHER],
        "parallel_tool_calls": False,
    }
    answer = client.chat.completions.create(messages=messages, tool_choice="required", **settings)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls[0].function.name == "get_weather"
    assert set(json.loads(message.tool_calls[0].function.arguments)) == {"city"}
    messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Sunny, 20 degrees"}]
    said = client.chat.completions.create(messages=messages, tool_choice="none", **settings)
    assert said.choices[0].message.content
    assert not said.choices[0].message.tool_calls


def test_tools_in_a_stream(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    settings: Any = {"model": MODEL, "temperature": 0, "max_tokens": 60, "tools": [WEATHER], "tool_choice": choice}
    whole = client.chat.completions.create(messages=messages, **settings).choices[0]
    with client.chat.completions.stream(messages=messages, **settings) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == whole.finish_reason
    assert [event.arguments for event in done] == [whole.message.tool_calls[0].function.arguments]
    assert set(done[0].parsed_arguments) == {"city"}


def test_models(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {MODEL, TINY} <= set(models)
    assert client.models.retrieve(TINY).id == TINY
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-none", messages=QUESTION)
    assert error.value.code == "model_not_found"


def test_refusals_name_their_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)
    assert error.value.param == "temperature"
    with pytest.raises(openai.NotFoundError, match="chat/completions"):
        client.responses.create(model=MODEL, input="Hello")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="another").models.list()


def test_a_fine_tune_from_file_to_answer(client: openai.OpenAI, tmp_path: Path) -> None:
    file = client.files.create(file=training_file(tmp_path), purpose="fine-tune")
    assert client.files.wait_for_processing(file.id).status == "processed"
    job = client.fine_tuning.jobs.create(
        model=TINY, training_file=file.id, suffix="colours", seed=7, metadata={"of": "clients"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )  # fmt: skip
    job = wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id))
    assert job.status == "succeeded", job.error
    assert ":colours:" in job.fine_tuned_model
    assert [found.id for found in client.fine_tuning.jobs.list(metadata={"of": "clients"})] == [job.id]
    assert any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job.id))
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert len(checkpoints) == 2
    assert b"train_loss" in client.files.content(job.result_files[0]).content
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=QUESTION, max_tokens=3)
    assert answer.model == job.fine_tuned_model
    assert client.models.delete(job.fine_tuned_model).deleted
    assert client.files.delete(file.id).deleted


def test_batch(client: openai.OpenAI, server: Server, tmp_path: Path) -> None:
    file = client.files.create(file=batch_file(tmp_path), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "clients"}
    )
    batch = wait_for(lambda: client.batches.retrieve(batch.id))
    assert (batch.status, batch.request_counts.completed) == ("completed", 2)
    lines = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}
    assert said == {f"question-{n}": server.text(QUESTION, max_tokens=4 + n) for n in range(2)}


@pytest.mark.parametrize("names_deployment", [True, False], ids=["deployment", "model"])
def test_azure(server: Server, names_deployment: bool) -> None:
    """It sends its key in the header `api-key`, and names the model in the path."""
    address = {"azure_endpoint": server.url.removesuffix("/v1")}
    if names_deployment:
        address["azure_deployment"] = MODEL
    with openai.AzureOpenAI(
        **address, api_key=server.key, api_version="2025-03-01-preview", max_retries=0, _strict_response_validation=True
    ) as client:
        answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=12)
        stream = client.chat.completions.create(
            model=MODEL, messages=QUESTION, temperature=0, max_tokens=12, stream=True
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        if not names_deployment:
            assert client.fine_tuning.jobs.list(limit=1).object == "list"
    assert answer.choices[0].message.content == said == server.text(QUESTION, max_tokens=12)
