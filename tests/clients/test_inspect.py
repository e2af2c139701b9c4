"""Inspect runs a small task on questions that are in this file."""

from pathlib import Path
from typing import Any

import pytest
from conftest import MODEL, Server
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool

CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Norway": "Vienna"}  # the last one is wrong
PROMPT = "What is the capital of {}?"


@pytest.fixture(autouse=True)
def address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENGINE", "OPENAI"):
        monkeypatch.setenv(f"{name}_BASE_URL", server.url)
        monkeypatch.setenv(f"{name}_API_KEY", server.key)


def capitals(**more: Any) -> Task:
    samples = [Sample(input=PROMPT.format(country), target=city) for country, city in CAPITALS.items()]
    return Task(dataset=samples, solver=generate(), scorer=includes(), **more)


def run(task: Task, folder: Path, model: str, **more: Any) -> Any:
    """Return the log of a task that succeeded."""
    (log,) = eval(
        task,
        model=model,
        log_dir=str(folder),
        temperature=0,
        max_tokens=40,
        display="none",
        score_display=False,
        **more,
    )
    assert log.status == "success", log.error
    return log


@pytest.mark.parametrize(
    ("model", "arguments", "temperature"),
    # Of models at OpenAI that it does not know, Inspect supposes that they have no temperature.
    [(f"openai-api/engine/{MODEL}", {}, 0), (f"openai/{MODEL}", {"responses_api": False}, 1)],
    ids=["openai-api", "openai"],
)
def test_a_task(server: Server, tmp_path: Path, model: str, arguments: dict[str, Any], temperature: int) -> None:
    log = run(capitals(), tmp_path, model, model_args=arguments, seed=1)
    said = {sample.input: sample.output.completion for sample in log.samples}
    settings = {"max_tokens": 40, "temperature": temperature, "seed": 1}
    plain = {one: server.chat([{"role": "user", "content": one}], **settings) for one in said}
    assert said == {one: answer["choices"][0]["message"]["content"] for one, answer in plain.items()}
    right = [city in said[PROMPT.format(country)] for country, city in CAPITALS.items()]
    assert temperature or 0 < sum(right) < 4
    assert log.results.scores[0].metrics["accuracy"].value == sum(right) / 4
    (counted,) = log.stats.model_usage.values()
    assert counted.total_tokens == sum(answer["usage"]["total_tokens"] for answer in plain.values())


def test_logprobs(tmp_path: Path) -> None:
    config = GenerateConfig(logprobs=True, top_logprobs=2)
    log = run(capitals(config=config), tmp_path, f"openai-api/engine/{MODEL}")
    for sample in log.samples:
        tokens = sample.output.choices[0].logprobs.content
        assert "".join(token.token for token in tokens) == sample.output.completion
        assert all(len(token.top_logprobs) == 2 for token in tokens)


@tool
def get_weather() -> Any:
    async def execute(city: str) -> str:
        """Get the weather of a city.

        Args:
            city: The city's name
        """
        return f"Sunny in {city}"

    return execute


def test_tools(tmp_path: Path) -> None:
    task = Task(
        dataset=[Sample(input="What is the weather in Paris?", target="")],
        solver=[use_tools(get_weather(), tool_choice="any"), generate(tool_calls="single")],
    )
    log = run(task, tmp_path, f"openai-api/engine/{MODEL}", parallel_tool_calls=False)
    results = [message for message in log.samples[0].messages if message.role == "tool"]
    assert results
    assert all(message.function == "get_weather" for message in results)
