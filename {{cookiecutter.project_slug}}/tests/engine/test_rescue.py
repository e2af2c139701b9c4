"""Rescue a fine-tuned model from a provider that closes: an engine, whose calls have a price here."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, wait
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl, sha256_of
from finetune.provider import completions
from finetune.rescue import downloads
from finetune.rescue import save as saving

PARAMS = """
data: {file: raw.csv, split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: compatible, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: 7}
evaluate: {max_tokens: 4, temperature: 0.5, concurrency: 1, top_logprobs: 3}
"""
PRICES = "[tiny.compatible]\ninput = 1000.0\noutput = 2000.0\nshutdown = 2099-01-14\n"
ROWS = 24


@pytest.fixture(scope="module")
def model(client: openai.OpenAI, forked_workers: None) -> str:
    return str(wait(client, start_job(client, epochs=1, examples=ROWS).id).fine_tuned_model)


@pytest.fixture
def project(client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_API_KEY", client.api_key)
    (tmp_path / "params.yaml").write_text(PARAMS.replace("URL", str(client.base_url)), encoding="utf-8")
    (tmp_path / "models.toml").write_text(PRICES, encoding="utf-8")
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["rescue", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


class Killed(Exception):
    pass


def test_list_shows_model_job_data_and_shutdown(model: str, project: Path) -> None:
    (found,) = json.loads(run("list", "--json"))
    assert found["model"] == model
    assert found["answers"]
    assert found["training_file_is_there"]
    assert (found["shutdown"], found["base"]) == ("2099-01-14", "tiny")
    assert found["days_left"] > 0
    assert model in run("list")


def test_save_keeps_to_the_budget_and_asks_nothing_twice_after_a_kill_at_every_step(
    model: str, project: Path, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    real = completions.ask

    def counted(connection: Any, request: Any, limiter: Any) -> Any:
        if len(sent) == 5 and not killed:
            killed.append("asking")
            raise Killed
        sent.append(str(request["messages"]))
        return real(connection, request, limiter)

    killed: list[str] = []
    monkeypatch.setattr(completions, "ask", counted)

    def kill_at(module: Any, name: str, part: str) -> None:
        """Run until a file is to be written that has `part` in its name, and end there."""
        write = getattr(module, name)

        def dies(path: Path, *content: Any) -> None:
            if part in path.name:
                raise Killed
            write(path, *content)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, dies)
            assert isinstance(CliRunner().invoke(app, command).exception, Killed), part

    # A prompt counts as its bytes at most, an answer as 4 tokens: the budget pays for some rows, and not for all.
    command = ["rescue", "save", model, "--usd", "1.5"]
    for part in ("events", "checkpoints", "results", "training", "validation", "job"):
        kill_at(downloads, "write_bytes", part)
    assert not sent
    assert isinstance(CliRunner().invoke(app, command).exception, Killed)
    assert killed == ["asking"]
    kill_at(saving, "write_jsonl", "answers")
    kill_at(saving, "write_json", "manifest")
    said = run(*command[1:])
    folder = downloads.folder_of(model, saving.ROOT)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert 5 < manifest["asked"] < ROWS
    assert len(sent) == len(set(sent)) == manifest["asked"]
    assert manifest["left_out_by_budget"] == ROWS - manifest["asked"]
    assert 0 < manifest["usd"] <= manifest["usd_at_most"] <= 1.5
    price, answers = said.index("questions costs at most $"), said.index(" answers of ")
    assert price < answers
    rows = read_jsonl(folder / "answers.jsonl", "rescue")
    assert all(len(row["logprobs"]) and row["messages"][-1]["role"] == "assistant" for row in rows)
    assert {row["expected"] for row in rows} == {"red", "blue", "green"}
    assert all(sha256_of(folder / name) == one["sha256"] for name, one in manifest["files"].items())
    assert {"answers.jsonl", "events.jsonl", "job.json", "training.jsonl", "results.csv"} <= manifest["files"].keys()
    # A higher budget asks only the rest; one that pays for nothing says what all would cost.
    run("save", model, "--usd", "1000")
    assert len(sent) == len(set(sent)) == ROWS
    nothing = CliRunner().invoke(app, ["rescue", "save", model, "--usd", "0.01"])
    assert "does not pay for one question" in str(nothing.exception)


def test_without_a_budget_the_price_is_confirmed_first(
    model: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(project / "home"))  # no kept answers
    monkeypatch.setattr(completions, "ask", lambda *_: pytest.fail("a question was sent"))
    done = CliRunner().invoke(app, ["rescue", "save", model], input="n\n")
    assert done.exit_code == 1
    assert "24 of 24 questions costs at most $" in done.output
