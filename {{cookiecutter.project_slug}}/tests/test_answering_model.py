"""Kept answers belong to what answers, and not to a name that can be pointed elsewhere."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, refusal, server
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.provider import Provider
from finetune.provider import retries
from finetune.provider.answer_cache import cache_path
from finetune.provider.completions import answer_all
from finetune.provider.connect import connect

SETTINGS = Evaluate(max_tokens=4, temperature=0.0, concurrency=1)  # so that a server's turns are those of the questions
QUESTIONS = [[{"role": "user", "content": f"question {number}"}] for number in range(5)]


class Deployment:
    """A server whose names can be pointed to other models. It counts the requests."""

    def __init__(self) -> None:
        self.model, self.fingerprint, self.text, self.asked = "gpt-4.1-2025-04-14.ft-m1", "fp_1", "yes", 0
        self.fingerprints: list[str] = []  # those of its machines, in turn
        self.refuses = 0  # with this status

    def answer(self, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        """Reply as Azure does: `model` is the model behind the deployment, and not the deployment's name."""
        self.asked += 1
        if self.refuses:
            return self.refuses, refusal("refused"), {}
        machines = self.fingerprints or [self.fingerprint]
        fingerprint = machines[self.asked % len(machines)]
        return 200, completion(self.text) | {"model": self.model, "system_fingerprint": fingerprint}, {}


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture
def ask(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    for name in ("AZURE_OPENAI_API_KEY", "FINETUNE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "a key")
    with server(deployment.answer) as address:

        def answers(
            provider: str = "azure", model: str = "prod", fresh: bool = False, count: int = 5, times: int = 1
        ) -> list[str]:
            said: list[str] = []
            with connect(Provider(name=provider, base_url=address), fresh) as connection:
                for _ in range(times):
                    found = answer_all(connection, model, QUESTIONS[:count], SETTINGS, 42, lambda *_: None, said.append)
            return [answer.text for answer in found] + said

        yield answers


def test_a_deployment_that_got_another_model_is_asked_again(
    deployment: Deployment, ask: Callable[..., list[str]]
) -> None:
    assert ask() == ["yes"] * 5
    deployment.model, deployment.text = "gpt-4.1-2025-04-14.ft-m2", "no"
    *texts, said = ask()
    assert texts == ["no"] * 5
    assert said.startswith("prod is another model than before")
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
    assert CliRunner().invoke(app, ["answers", "list"]).output == "answers: none are kept\n"


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_kept_answers_outlive_a_server_that_refuses_to_say_what_answers(
    deployment: Deployment, ask: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    ask("compatible")
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    deployment.refuses = status
    *texts, said = ask("compatible")
    assert texts == ["yes"] * 5
    assert "what answers under prod now" in said
    assert "--fresh" in said


def test_kept_answers_outlive_a_server_that_is_gone(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_API_KEY", "a key")
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    said: list[str] = []

    def ask_at(address: str) -> list[str]:
        with connect(Provider(name="compatible", base_url=address)) as connection:
            found = answer_all(connection, "m", QUESTIONS, SETTINGS, 42, lambda *_: None, said.append)
        return [answer.text for answer in found]

    with server(deployment.answer) as address:
        ask_at(address)
    assert ask_at(address) == ["yes"] * 5
    assert len(said) == 1


def test_to_find_out_changes_no_kept_answer(deployment: Deployment, ask: Callable[..., list[str]]) -> None:
    """Else the latencies, and with them reports, would differ each time."""
    ask()
    with sqlite3.connect(cache_path()) as db:
        before = db.execute("SELECT * FROM completions NATURAL JOIN answered ORDER BY key").fetchall()
    ask()
    with sqlite3.connect(cache_path()) as db:
        assert db.execute("SELECT * FROM completions NATURAL JOIN answered ORDER BY key").fetchall() == before


def test_the_message_names_both_models(deployment: Deployment, ask: Callable[..., list[str]]) -> None:
    ask()
    deployment.model = "gpt-4.1-2025-04-14.ft-m2"
    said = ask()[-1]
    assert "gpt-4.1-2025-04-14.ft-m1" in said
    assert "gpt-4.1-2025-04-14.ft-m2" in said


def test_a_gateway_whose_fingerprints_alternate_is_not_paid_again(
    deployment: Deployment, ask: Callable[..., list[str]]
) -> None:
    """A gateway passes on the fingerprints of a provider's machines, of which each answer may have another."""
    deployment.fingerprints = ["fp_a", "fp_b", "fp_c"]
    ask("compatible")
    *texts, said = ask("compatible")
    assert texts == ["yes"] * 5
    assert deployment.asked <= 5 + 1
    assert said.startswith("warning: prod gives several fingerprints")


def test_a_server_without_fingerprints_is_asked_once_and_a_different_answer_is_told(
    deployment: Deployment, ask: Callable[..., list[str]]
) -> None:
    deployment.model, deployment.fingerprint = "prod", ""
    ask("compatible")
    assert ask("compatible") == ["yes"] * 5
    deployment.text = "no"
    *texts, said = ask("compatible")
    assert texts == ["yes"] * 5
    assert said.startswith("warning: prod answers a question otherwise than before")
    assert deployment.asked == 5 + 1 + 1


def test_fresh_does_not_ask_twice_in_one_run(deployment: Deployment, ask: Callable[..., list[str]]) -> None:
    """As where evaluate.compare names a commit that has the same model."""
    ask(fresh=True, times=2)
    assert deployment.asked == 5


@pytest.mark.parametrize("model", ["gpt-4-0613", "gpt-3.5-turbo-1106", "gpt-4-1106-preview", "gpt-4-32k-0613"])
def test_snapshots_named_by_month_and_day_are_fixed_too(
    deployment: Deployment, ask: Callable[..., list[str]], model: str
) -> None:
    ask("openai", model)
    ask("openai", model)
    assert deployment.asked == 5


def test_answers_are_in_the_panel_of_what_is_used_here() -> None:
    groups = {group.name: group.rich_help_panel for group in app.registered_groups}
    assert groups["answers"] == "Use the model"
    assert "Examples:" in CliRunner().invoke(app, ["answers", "clear", "--help"]).output


def test_a_model_that_was_changed_and_changed_back_is_no_alternation(
    deployment: Deployment, ask: Callable[..., list[str]]
) -> None:
    ask("compatible")
    deployment.fingerprint, deployment.text = "fp_2", "no"
    ask("compatible", count=3)
    deployment.fingerprint, deployment.text = "fp_1", "yes"
    assert ask("compatible")[:5] == ["yes"] * 5


def test_fresh_says_how_dvc_keeps_the_new_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC has the former answers to the same questions in its run cache, and `dvc repro` alone would restore them."""
    from finetune.core import params
    from finetune.stages import tuned

    monkeypatch.setattr(params, "load_params", lambda: None)
    monkeypatch.setattr(tuned, "run", lambda *_: 5)
    said = CliRunner().invoke(app, ["tuned", "--fresh"]).output
    assert said == "tuned: 5 answers. Keep these with: dvc commit -f tuned && dvc repro\n"
    assert CliRunner().invoke(app, ["tuned"]).output == "tuned: 5 answers\n"
