"""Rescue a fine-tuned model from a provider that closes: an engine, whose calls have a price here."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import COLOURS, start_job, wait
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl, sha256_of
from finetune.core.params import load_params
from finetune.engine.embedded import embedded
from finetune.provider import completions
from finetune.provider.connect import connect
from finetune.rescue import downloads, into, recording
from finetune.rescue import save as saving
from finetune.rescue.save import find

ROOT = Path(__file__).parents[2]

PARAMS = """\
data:
  file: data/raw/raw.csv
  near: off  # the questions differ in a word
  prompt: {user: "{asked}", assistant: "{colour}"}
  labels: [red, blue, green]
  split: {train: 0.7, valid: 0.1, test: 0.2}
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


@pytest.mark.slow
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
    kill_at(recording, "write_jsonl", "answers")
    kill_at(recording, "write_json", "manifest")
    assert "questions are answered already" in run(*command[1:])
    folder = downloads.folder_of(model, saving.ROOT)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert 5 < manifest["asked"] < ROWS
    assert len(sent) == len(set(sent)) == manifest["asked"]
    assert manifest["not_asked"] == ROWS - manifest["asked"]
    assert 0 < manifest["usd"] <= manifest["usd_at_most"] <= 1.5
    rows = read_jsonl(folder / "answers.jsonl", "rescue")
    assert all(len(row["logprobs"]) and row["messages"][-1]["role"] == "assistant" for row in rows)
    assert {row["expected"] for row in rows} == {"red", "blue", "green"}
    assert all(sha256_of(folder / name) == one["sha256"] for name, one in manifest["files"].items())
    assert {"answers.jsonl", "events.jsonl", "job.json", "training.jsonl", "results.csv"} <= manifest["files"].keys()
    # A higher budget asks only the rest; one that pays for nothing says what all would cost.
    assert f"--usd left out {manifest['not_asked']} questions; all cost at most $" in run(
        "save", model, "--usd", "0.01"
    )
    said = run("save", model, "--usd", "1000")
    price, answers = said.index("questions costs at most $"), said.index(" answers of ")
    assert price < answers
    assert len(sent) == len(set(sent)) == ROWS
    assert "asking" not in run("save", model, "--usd", "0")


def test_without_a_budget_the_price_is_confirmed_first(
    model: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(project / "home"))  # no kept answers
    monkeypatch.setattr(completions, "ask", lambda *_: pytest.fail("a question was sent"))
    done = CliRunner().invoke(app, ["rescue", "save", model], input="n\n")
    assert done.exit_code == 1
    assert "24 of 24 questions costs at most $" in done.output
    nothing = CliRunner().invoke(app, ["rescue", "save", model, "--usd", "0.01"])
    assert "does not pay for one question; all 24 cost at most $" in str(nothing.exception)


KILLS = """
import os, signal, sys
from finetune.provider import completions

real, sent = completions.ask, []

def ask(*arguments):
    sent.append(1)
    if len(sent) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

completions.ask = ask
from finetune.cli import main
sys.argv[1:] = ["rescue", "save", sys.argv[1], "--rows", "new.csv", "--usd", sys.argv[2]]
main()
"""


@pytest.mark.slow
def test_rows_of_a_file_are_saved_beside_the_data_and_kill_9_counts_against_the_budget(
    model: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{n}: paint it {COLOURS[n % 3]},{COLOURS[n % 3]}" for n in range(100, 105)]
    Path("new.csv").write_text("\n".join(["asked,colour", *lines, ",red"]) + "\n", encoding="utf-8")
    with monkeypatch.context() as patch:  # what was planned before, without a kill
        patch.setenv("FINETUNE_HOME", str(project / "home"))
        plain = run("save", model, "--rows", "new.csv", "--usd", "0.3")
    assert "asking 2 of 5 questions" in plain
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLS, model, "1000"]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    folder = downloads.folder_of(model, saving.ROOT)
    assert saving.killed_runs(folder) == 1
    # Without the kill, $0.5 pays for a third question.
    less = run("save", model, "--rows", "new.csv", "--usd", "0.5")
    assert "--usd left out 3 questions; all cost at most $0.7760" in less
    run("save", model, "--rows", "new.csv", "--usd", "1000")
    rows = read_jsonl(folder / "answers-new.jsonl", "rescue")
    assert [row["place"] for row in rows] == [f"new.csv:{n}" for n in range(1, 6)]
    assert [row["expected"] for row in rows] == [COLOURS[n % 3] for n in range(100, 105)]
    manifest = json.loads((folder / "manifest-new.json").read_text(encoding="utf-8"))
    assert manifest["left_out"] == {"no question: asked is empty": 1}
    assert not (folder / "answers.jsonl").exists()


TRAINED, HELD_OUT = 30, 18
SETTINGS: dict[str, Any] = {"n_epochs": 12, "learning_rate_multiplier": 4.0}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the questions that are sent. After `kill` is put into the list, the sixth question ends the process."""
    asked: list[str] = []
    real = completions.ask

    def counted(connection: Any, request: Any, limiter: Any) -> Any:
        if "kill" in asked and len(asked) - asked.index("kill") > 5:
            asked.remove("kill")
            raise Killed
        asked.append(f"{connection.identity} {request['model']} {request['messages']}")
        return real(connection, request, limiter)

    monkeypatch.setattr(completions, "ask", counted)
    return asked


@pytest.mark.slow
def test_a_successor_at_another_provider_is_compared_with_the_recorded_answers(
    client: openai.OpenAI,
    forked_workers: None,
    home: Path,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: list[str],
) -> None:
    model = train_on_colours(client)
    run("save", model, "--usd", "1000")
    with connect(load_params().provider) as connection:  # names of checkpoints have another last part than the model's
        job, _ = find(connection, model, print)
        for one in client.fine_tuning.jobs.checkpoints.list(job.id).data:
            names = (one.id, one.fine_tuned_model_checkpoint)
            assert [find(connection, name, print)[1] for name in names] == [names[1]] * 2
    client.models.delete(model)
    assert len(sent) == TRAINED + HELD_OUT
    for name in ("dvc.yaml", "data/also/.gitkeep", "data/replay/.gitkeep", "models/variants/README.md"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, name)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "add", "."], check=True)

    # The new home has no answers of the former one, and another key.
    new_home = project.with_name("new-home")
    new_home.mkdir(mode=0o700)
    shutil.copytree(home / "bases", new_home / "bases")
    monkeypatch.setenv("FINETUNE_HOME", str(new_home))
    successor = project.with_name("successor")
    with embedded() as address:
        monkeypatch.setenv("FINETUNE_ENGINE_KEY", address.key)
        command = ["into", str(successor), "--provider", "local", "--base", "tiny"]
        command += ["--base-url", address.base_url]
        with monkeypatch.context() as patch:
            patch.setattr(into, "write_jsonl", killed)
            assert isinstance(CliRunner().invoke(app, ["rescue", *command]).exception, Killed)
        assert not successor.exists()
        assert f"{TRAINED} train, 0 valid, {HELD_OUT} test" in run(*command)
        monkeypatch.chdir(successor)
        change(["train"], SETTINGS)
        change(["evaluate", "rescued"], {"margin": 0.2})
        repro(sent)
        with openai.OpenAI(base_url=address.base_url, api_key=address.key) as there:
            assert len(there.fine_tuning.jobs.list().data) == 1
    assert len(sent) == len(set(sent)) == TRAINED + HELD_OUT + 2 * HELD_OUT
    assert not any(model in one for one in sent[TRAINED + HELD_OUT :])

    evaluation = json.loads(Path("reports/evaluation.json").read_text(encoding="utf-8"))
    rescued = evaluation["rescued"]
    recorded = [row["messages"][-1]["content"] for row in read_jsonl(Path("data/also/rescued.jsonl"), "rescue")]
    right = sum(said.strip() == COLOURS[n % 3] for n, said in enumerate(recorded, TRAINED))
    assert rescued["accuracy"] == pytest.approx(right / HELD_OUT, abs=1e-4)
    # The same rows, base, hyperparameters and seed: it answers alike.
    assert evaluation["tuned"]["accuracy"] == rescued["accuracy"]
    assert rescued["kept"] == evaluation["gates_met"] == 1
    assert rescued["verdict"].startswith("as good within the margin of 0.2; ")
    assert f"tuned against rescued: {rescued['verdict']}" in command_output("show")
    page, markdown = (Path(f"reports/report.{form}").read_text(encoding="utf-8") for form in ("html", "md"))
    assert f"Against the rescued model {model}, by its recorded answers: " in page
    assert "Against the rescued model" in markdown
    assert "tuned − rescued" in page

    change(["evaluate", "rescued"], {"margin": 0.05})  # which so few rows cannot show
    command_output("evaluate")
    evaluation = json.loads(Path("reports/evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["rescued"]["verdict"].startswith("not shown to be as good within the margin of 0.05; ")
    assert evaluation["gates_failed"] == ["rescued.kept is 0, not == 1"]


def killed(*_: Any) -> None:
    raise Killed


def train_on_colours(client: openai.OpenAI) -> str:
    """Train a model on the first rows; the others are its validation data."""
    files = [
        client.files.create(file=(f"{name}.jsonl", colours(*which)), purpose="fine-tune").id
        for name, which in (("train", (0, TRAINED)), ("valid", (TRAINED, HELD_OUT)))
    ]
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": SETTINGS}}
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="tiny", training_file=files[0], validation_file=files[1], seed=7, method=method)
    return str(wait(client, job.id).fine_tuned_model)


def colours(first: int, count: int) -> bytes:
    texts = [(f"{n}: paint it {COLOURS[n % 3]}", COLOURS[n % 3]) for n in range(first, first + count)]
    chats = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in texts]
    return "".join(json.dumps({"messages": chat}) + "\n" for chat in chats).encode()


def change(keys: list[str], changes: dict[str, Any]) -> None:
    """Change values of a section of params.yaml."""
    yaml = YAML()
    values = section = yaml.load(Path("params.yaml"))
    for key in keys:
        section = section[key]
    section |= changes
    yaml.dump(values, Path("params.yaml"))


def command_output(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.output


def repro(sent: list[str]) -> None:
    """Run the stages as `dvc repro` does. One that asks is killed in the middle, and run again."""
    stages = YAML(typ="safe").load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        assert all(Path(dep).exists() for dep in stage["deps"] if not dep.startswith("finetune/")), name
        if name in ("baseline", "tuned"):
            sent.append("kill")
            assert isinstance(CliRunner().invoke(app, [name]).exception, Killed)
        command_output(*stage["cmd"].removeprefix("python -m finetune ").split())
