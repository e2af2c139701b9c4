"""Kept answers belong to what answers, and not to a name that can be pointed elsewhere."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, server
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.params import Evaluate, Provider
from finetune.provider.answer_cache import cache_path
from finetune.provider.completions import answer_all
from finetune.provider.connect import connect

SETTINGS = Evaluate(max_tokens=4, temperature=0.0, concurrency=2)
QUESTIONS = [[{"role": "user", "content": f"question {number}"}] for number in range(5)]


class Deployment:
    """A server whose names can be pointed to other models. It counts the requests."""

    def __init__(self) -> None:
        self.model, self.fingerprint, self.text, self.asked = "gpt-4.1-2025-04-14.ft-m1", "fp_1", "yes", 0

    def answer(self, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        """Reply as Azure does: `model` is the model behind the deployment, and not the deployment's name."""
        self.asked += 1
        return 200, completion(self.text) | {"model": self.model, "system_fingerprint": self.fingerprint}, {}


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture
def ask(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    for name in ("AZURE_OPENAI_API_KEY", "FINETUNE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "a key")
    with server(deployment.answer) as address:

        def answers(provider: str = "azure", model: str = "prod", fresh: bool = False, count: int = 5) -> list[str]:
            said: list[str] = []
            with connect(Provider(name=provider, base_url=address), fresh) as connection:
                found = answer_all(connection, model, QUESTIONS[:count], SETTINGS, 42, lambda *_: None, said.append)
            return [answer.text for answer in found] + said

        yield answers


def test_a_deployment_that_got_another_model_is_asked_again(
    deployment: Deployment, ask: Callable[..., list[str]]
) -> None:
    assert ask() == ["yes"] * 5
    deployment.model, deployment.text = "gpt-4.1-2025-04-14.ft-m2", "no"
    assert ask() == [*["no"] * 5, "prod is another model than before: 4 of its answers are asked again."]
    assert deployment.asked == 5 + 5


def test_the_same_model_costs_one_request_to_find_out(deployment: Deployment, ask: Callable[..., list[str]]) -> None:
    ask()
    assert ask() == ["yes"] * 5
    assert deployment.asked == 5 + 1


@pytest.mark.parametrize(("provider", "asked"), [("azure", 5 + 1), ("compatible", 5 + 5)])
def test_a_fingerprint_decides_only_where_it_stands_for_the_model(
    deployment: Deployment, ask: Callable[..., list[str]], provider: str, asked: int
) -> None:
    """OpenAI's and Azure's changes with their machines too, and nobody pays for all answers again because of that."""
    ask(provider)
    deployment.fingerprint = "fp_2"
    ask(provider)
    assert deployment.asked == asked


@pytest.mark.parametrize(("model", "asked"), [("ft:gpt-4.1:me::x", 0), ("gpt-4.1-2025-04-14", 0), ("gpt-4.1", 1)])
def test_a_name_that_never_changes_needs_no_request(
    deployment: Deployment, ask: Callable[..., list[str]], model: str, asked: int
) -> None:
    ask("openai", model)
    ask("openai", model)
    assert deployment.asked == 5 + asked


def test_fresh_asks_again_and_an_interrupted_run_continues(
    deployment: Deployment, ask: Callable[..., list[str]]
) -> None:
    ask()
    deployment.text = "no"
    assert ask(fresh=True, count=3) == ["no"] * 3
    assert deployment.asked == 5 + 3
    assert ask() == ["no", "no", "no", "yes", "yes"]


def test_answers_of_earlier_versions_are_used_with_a_warning(
    deployment: Deployment, ask: Callable[..., list[str]]
) -> None:
    ask()
    with sqlite3.connect(cache_path()) as db:
        db.execute("DELETE FROM answered")
    *texts, said = ask()
    assert texts == ["yes"] * 5
    assert said.startswith("warning: 4 kept answers of prod are of an earlier version")


def test_kept_answers_are_listed_and_cleared(ask: Callable[..., list[str]], deployment: Deployment) -> None:
    ask()
    ask(model="other", count=2)
    listed = CliRunner().invoke(app, ["answers", "list"])
    assert "gpt-4.1-2025-04-14.ft-m1" in listed.output
    assert CliRunner().invoke(app, ["answers", "clear", "prod", "--yes"]).output == "answers: 5 removed\n"
    assert '"answers": 2' in CliRunner().invoke(app, ["answers", "list", "--json"]).output
    assert CliRunner().invoke(app, ["answers", "clear"], input="n\n").exit_code == 1
    assert CliRunner().invoke(app, ["answers", "clear", "--yes"]).output == "answers: 2 removed\n"
    assert CliRunner().invoke(app, ["answers", "clear", "nobody"]).output == "answers: nothing to remove\n"
