"""The pipeline with train.method dpo: from raw pairs to the margin of held-out pairs in the report."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import quick
from conftest import COLOURS, wait
from ruamel.yaml import YAML
from test_dpo import preference

from finetune.core.disk import read_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import EVALUATION, MODEL, PREPARED
from finetune.provider import given_answers
from finetune.scoring.judge import judge_messages
from finetune.stages import baseline, evaluate, prepare, report, train, tuned, upload, validate

RAW = Path("data/raw/pairs.jsonl")


@pytest.fixture(scope="module", autouse=True)
def _project(client: openai.OpenAI, forked_workers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        quick.use_engine(patch, client.api_key)
        write_jsonl(RAW, [pair(number) for number in range(90)])
        write_params(client)
        yield


def pair(number: int) -> dict[str, Any]:
    """Return a pair of two answers of one length, so that an untrained model finds neither much more probable."""
    row = preference(number)
    row["input"]["messages"][0]["content"] = f"{number * 7919}: how warm is {COLOURS[number % 3]}?"
    row["preferred_output"][0]["content"], row["non_preferred_output"][0]["content"] = "cold", "warm"
    return row


def write_params(
    client: openai.OpenAI, data: dict[str, Any] | None = None, judge: dict[str, str] | None = None, **train: Any
) -> None:
    values = {
        "data": {"file": str(RAW), "near": "off", "split": {"train": 0.5, "valid": 0.1, "test": 0.4}, **(data or {})},
        "provider": {"name": "local", "base_url": str(client.base_url)},
        "train": {
            "base": "tiny",
            "method": "dpo",
            "n_epochs": 2,
            "batch_size": 4,
            "learning_rate_multiplier": 10.0,
            "beta": 0.1,
            "seed": 7,
            **train,
        },
        "evaluate": {"task": "generate", "max_tokens": 6, "temperature": 0.0, "concurrency": 8, "judge": judge},
    }
    YAML().dump(values, Path("params.yaml"))


@pytest.mark.slow
def test_held_out_pairs_show_the_margin(client: openai.OpenAI) -> None:
    params = load_params()
    prepare.run(params)
    rows = [json.loads(line) for line in (PREPARED / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(row.keys() == {"input", "preferred_output", "non_preferred_output"} for row in rows)
    validate.run(params)
    upload.run(params)
    record = train.run(params)
    assert record["method"] == "dpo"
    assert record["hyperparameters"]["beta"] == 0.1
    baseline.run(params)
    tuned.run(params)
    evaluate.run(params)
    found = read_json(EVALUATION, "evaluate")["preferences"]
    assert found["pairs"] == len(rows)
    assert found["base"] < 0.5 < found["tuned"]
    assert found["p_value"] < 0.05
    assert found["margin_p_value"] < 0.05
    assert found["margin_low"] > 0
    report.run()
    page = Path("reports/report.html").read_text(encoding="utf-8")
    assert f"In {found['tuned']:.3f} of {len(rows)} test pairs the preferred answer is more probable" in page
    assert "Margin of rewards" in page
    assert "## Preferences" in Path("reports/report.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_same_pairs_are_one_job(client: openai.OpenAI) -> None:
    before = MODEL.read_bytes()
    train.run(load_params())
    assert MODEL.read_bytes() == before
    write_params(client, beta=0.2, n_epochs=1)
    params = load_params()
    validate.run(params)
    assert train.run(params)["job"] != json.loads(before)["job"]
    write_params(client)


@pytest.mark.slow
def test_a_judge_that_looks_at_the_place_alone_shows_no_preference(client: openai.OpenAI) -> None:
    """The judge is a model that was trained to reply with A, whatever it is asked."""
    instructions = "Reply with A or B."
    first = {"role": "assistant", "content": "A"}
    asked = judge_messages(*(["how warm?"] * 12, ["cold"] * 12, ["cold"] * 12, ["warm"] * 12), instructions)
    rows = [{"messages": [*messages, first]} for messages in asked]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    file = client.files.create(file=("judge.jsonl", lines), purpose="fine-tune")
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, method=method, seed=7)  # type: ignore[arg-type]
    write_params(client, judge={"model": wait(client, job.id).fine_tuned_model, "instructions": instructions})
    params = load_params()
    for stage in (prepare, validate, upload, train, baseline, tuned, evaluate):
        stage.run(params)
    found = read_json(EVALUATION, "evaluate")
    judge, pairs = found["judge"], found["preferences"]["pairs"]
    assert (judge["n"], judge["flipped"], judge["unreadable"], judge["first_share"]) == (pairs, pairs, 0, 1.0)
    assert "the judge shows no preference" in judge["verdict"]
    assert found["preferences"]["margin_p_value"] < 0.05
    report.run()
    assert judge["verdict"] in Path("reports/report.md").read_text(encoding="utf-8")
    write_params(client)


@pytest.mark.slow
def test_a_provider_without_log_probabilities_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenAI's API answers without `prompt_logprobs`."""
    monkeypatch.setattr(given_answers, "prompt_tokens", lambda completion: None)
    params = load_params()
    validate.run(params)
    train.run(params)
    baseline.run(params)
    tuned.run(params)
    assert "margin of the preferred answers is not measured" in capsys.readouterr().err
    found = evaluate.run(params)
    assert found["preferences"]["pairs"] == 0
    assert found["preferences"]["verdict"].startswith("not measured: the provider gives no log-probabilities")
    report.run()
    assert "was not measured: the provider gives" in Path("reports/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("data", "more", "what"),
    [
        ({}, {"method": "supervised", "beta": 0.1}, "train.beta is for train.method dpo"),
        ({}, {"beta": 3.0}, "'train.beta'"),
        ({"labels": ["a"]}, {}, "train.method dpo cannot be used with data.labels"),
        ({}, {"replay": {"file": "x", "share": 0.1}}, "train.method dpo cannot be used with train.replay"),
        ({}, {"method": "reinforcement"}, "'train.method'"),
    ],
)
def test_what_does_not_fit_the_method_is_refused(
    client: openai.OpenAI, data: dict[str, Any], more: dict[str, Any], what: str
) -> None:
    write_params(client, data, **more)
    with pytest.raises(FinetuneError, match=what):
        load_params()
    write_params(client)


def test_rows_of_another_method_are_refused(client: openai.OpenAI) -> None:
    prepare.run(load_params())
    write_params(client, method="supervised", beta="auto")
    with pytest.raises(FinetuneError, match=r"train.method supervised takes one answer[^→]*→ Set train.method to dpo"):
        validate.run(load_params())
    write_params(client)
    pairs = RAW.read_bytes()
    chats = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "!"}] for n in range(40)]
    write_jsonl(RAW, [{"messages": messages} for messages in chats])
    prepare.run(load_params())
    with pytest.raises(FinetuneError, match=r"train.method dpo takes preferences, and each row has one answer"):
        validate.run(load_params())
    RAW.write_bytes(pairs)
