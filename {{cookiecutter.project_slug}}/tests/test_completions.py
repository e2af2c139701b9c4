"""Training on prompts and completions: the choice of the marks, and that prompts get the same marks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Answer, completion, server

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import BASE_ANSWERS, PREPARED, PREPARED_REPORT
from finetune.core.sections.data import Data
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.provider import Provider
from finetune.core.sections.train import Train
from finetune.data.completion_format import (
    CompletionFormat,
    choose_completion_format,
    from_completion,
    question_and_answer,
    to_completion,
)
from finetune.data.token_counts import encoder
from finetune.stages import baseline, prepare, validate

TEAMS = ["delivery", "billing", "配送"]
ROWS = [
    {"question": f"{n}: where is the {thing} that I ordered on day {n * n}?", "team": TEAMS[n % 3]}
    for n, thing in enumerate(["lamp", "kettle", "ladder", "mirror", "candle", "bicycle", "carpet"] * 9)
]


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
def test_marks_are_the_shortest_that_the_tokenizer_does_not_merge(encoding: str) -> None:
    marks = choose_completion_format(lambda: ((row["question"], row["team"]) for row in ROWS), encoder(encoding))
    assert marks == CompletionFormat(" ->", "", "\n")  # these tokenizers need no space before a class
    marks = choose_completion_format(lambda: [("a -> b", "one\ntwo"), ("c", "d")], encoder(encoding))
    assert marks.separator == "\n\n###\n\n"
    assert marks.stop == " END"


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_the_conversion_to_a_completion_can_be_reversed(pairs: list[tuple[str, str]]) -> None:
    try:
        marks = choose_completion_format(lambda: pairs, encoder("o200k_base"))
    except FinetuneError:
        return
    for question, answer in pairs:
        assert marks.separator.strip(" ") not in question
        assert marks.stop.strip(" ") not in answer
        assert from_completion(to_completion(chat(question, answer), marks), marks) == (question, answer)


IMAGE = {"type": "image_url", "image_url": {"url": "https://a.org/1.png"}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda turns: turns[0].update(content=[{"type": "text", "text": "a"}, IMAGE]), "is not only text"),
        (lambda turns: turns[1].update(content=None, tool_calls=[{}]), "is not only text"),
        (lambda turns: turns[1].update(weight=0), "an answer with weight 0"),
    ],
)
def test_what_a_completion_cannot_hold_is_refused(change: Any, why: str) -> None:
    example = chat("a", "b")
    assert question_and_answer(example) == ("a", "b")
    change(example["messages"])
    with pytest.raises(ValueError, match=why):
        question_and_answer(example)


def test_different_system_prompts_are_refused_because_completions_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{**chat(row["question"], row["team"]), "system": f"document {n % 2}"} for n, row in enumerate(ROWS)]
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    split = {"train": 0.6, "valid": 0.2, "test": 0.2}
    data = Data.model_validate({"file": "raw.jsonl", "target": "completion", "split": split})
    with pytest.raises(FinetuneError, match=r"row \d+ has another system prompt than other rows"):
        prepare.run(params(Provider(name="openai")).model_copy(update={"data": data}))


def test_an_error_says_that_the_data_contain_every_mark() -> None:
    everything = " ->\n\n###\n\n===\n\n---\n\n===>\n\n--->\n\n### =>\n\n"
    with pytest.raises(FinetuneError, match="Every candidate for the separator"):
        choose_completion_format(lambda: [(everything, "a")], encoder("o200k_base"))
    with pytest.raises(ValueError, match="more than one question"):
        question_and_answer({"messages": chat("a", "b")["messages"] * 2})


def params(provider: Provider) -> Params:
    data = Data.model_validate(
        {
            "file": "raw.jsonl",
            "split": {"train": 0.7, "valid": 0.1, "test": 0.2},
            "prompt": {"system": "Name the team.", "user": "{question}", "assistant": "{team}"},
            "labels": TEAMS,
            "target": "completion",
        }
    )
    train = Train(
        base="babbage-002",
        method="supervised",
        n_epochs=1,
        batch_size="auto",
        learning_rate_multiplier="auto",
        seed=7,
    )
    evaluate = Evaluate(max_tokens=5, temperature=0.0, concurrency=4)
    return Params(data=data, provider=provider, train=train, evaluate=evaluate)


def test_from_raw_rows_to_the_base_models_completions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def always_billing(body: dict[str, Any]) -> Answer:
        asked.append(body)
        choice = {"index": 0, "text": "billing", "finish_reason": "stop", "logprobs": None}
        return 200, completion("") | {"object": "text_completion", "choices": [choice]}, {}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_API_KEY", "k")
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    Path("models.toml").write_text('["babbage-002"]\nencoding = "cl100k_base"\n', encoding="utf-8")
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    report = prepare.run(params(Provider(name="compatible", base_url="http://127.0.0.1:1/v1")))
    assert report["completion"] == {"separator": " ->", "lead": "", "stop": "\n"}
    lines = (PREPARED / "train.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert set(first) == {"prompt", "completion"}
    assert first["prompt"].endswith("? ->")
    assert first["completion"].strip() in TEAMS
    with server(always_billing) as address:
        made = params(Provider(name="compatible", base_url=address))
        assert "unknown_label" not in validate.run(made)["warnings"]
        assert baseline.run(made) == report["test"]
    assert all("messages" not in request and request["prompt"].endswith(" ->") for request in asked)
    assert {tuple(request["stop"]) for request in asked} == {("\n",)}
    rows = [json.loads(line) for line in BASE_ANSWERS.read_text(encoding="utf-8").splitlines()]
    assert {row["answer"] for row in rows} == {"billing"}
    assert {row["expected"] for row in rows} <= set(TEAMS)
    assert not any(row["asked"].endswith("->") for row in rows)
    assert json.loads(PREPARED_REPORT.read_text(encoding="utf-8"))["completion"]["stop"] == "\n"
