"""Prompts and completions of OpenAI's old guide: their separators, spaces and stops are seen, and are not content."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import completion, server

from finetune.asking.file_rows import predict
from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import BASE_ANSWERS, MODEL, PREPARED
from finetune.core.records.prepared import FoundMarks
from finetune.core.sections.data import Data
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.provider import Provider
from finetune.core.sections.train import Train
from finetune.data.existing_marks import find_marks, shared_cue, without_ending, without_marks
from finetune.provider.answer_parser import Answer as ParsedAnswer
from finetune.scoring.extract import extraction
from finetune.stages import baseline, prepare, validate
from finetune.terminal.summaries import prepare_summary

THINGS = ["lamp", "kettle", "ladder", "mirror", "candle", "bicycle", "carpet", "window", "table", "clock"]
QUESTIONS = [f"Where is the {THINGS[n % 10]} number {n * n * 7919} that I ordered in week {n}?" for n in range(60)]
LISTS = ["Peru\nKenya", "Japan", "Chile\nOman\nMali"]


def raw(separator: str, lead: str, stop: str, answers: list[str] = LISTS) -> list[dict[str, Any]]:
    return [
        {"prompt": question + separator, "completion": lead + answers[n % len(answers)] + stop}
        for n, question in enumerate(QUESTIONS)
    ]


def write(rows: list[dict[str, Any]]) -> None:
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def params(address: str = "http://127.0.0.1:1/v1", task: Any = "extract", **data: Any) -> Params:
    shares = {"train": 0.7, "valid": 0.1, "test": 0.2}
    auto: dict[str, Any] = dict.fromkeys(("batch_size", "learning_rate_multiplier"), "auto")
    return Params(
        data=Data.model_validate({"file": "raw.jsonl", "split": shares, **data}),
        provider=Provider(name="compatible", base_url=address),
        train=Train(base="babbage-002", method="supervised", n_epochs=1, seed=7, **auto),
        evaluate=Evaluate(task=task, max_tokens=9, temperature=0.0, concurrency=4),
    )


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_API_KEY", "k")
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    Path("models.toml").write_text('["babbage-002"]\nencoding = "cl100k_base"\n', encoding="utf-8")


def prepared() -> list[dict[str, Any]]:
    """Return the examples of all splits."""
    texts = ((PREPARED / f"{split}.jsonl").read_text(encoding="utf-8") for split in ("train", "valid", "test"))
    return [json.loads(line) for text in texts for line in text.splitlines()]


MARKS = [
    (" ->", " ", " END"),
    ("\n\n###\n\n", " ", "\n###"),
    ("\n\n===>\n\n", " ", " [END]"),
    ("->", "", "<|end|>"),
    ("\n\n### =>\n\n", " ", "***"),
]


@pytest.mark.parametrize(("separator", "lead", "stop"), MARKS)
def test_for_chat_the_marks_are_taken_off_and_noted(separator: str, lead: str, stop: str) -> None:
    write(raw(separator, lead, stop))
    report = prepare.run(params())
    assert report["found_marks"] == {"separator": separator, "lead": lead or None, "stop": stop}
    assert report["completion"] is None
    pairs = {tuple(message["content"] for message in row["messages"]) for row in prepared()}
    assert pairs == {(question, LISTS[n % 3]) for n, question in enumerate(QUESTIONS)}
    said = prepare_summary(report, params().data)
    assert "marks in the data, taken off" in said
    assert repr(separator) in said


@pytest.mark.parametrize(("separator", "lead", "stop"), [*MARKS[:3], ("\nCountries:", " ", " END")])
def test_for_completions_the_marks_are_kept_and_not_doubled(separator: str, lead: str, stop: str) -> None:
    write(raw(separator, lead, stop))
    report = prepare.run(params(target="completion"))
    assert report["completion"] == {"separator": separator, "lead": lead, "stop": stop}
    expected = {(row["prompt"], row["completion"]) for row in raw(separator, lead, stop)}
    assert {(row["prompt"], row["completion"]) for row in prepared()} == expected


def test_marks_that_are_missing_are_chosen_beside_those_that_are_there() -> None:
    write(raw(" ->", "", "", ["yes", "no"]))
    report = prepare.run(params(target="completion", labels=["yes", "no"]))
    assert report["completion"] == {"separator": " ->", "lead": "", "stop": "\n"}
    assert {row["completion"] for row in prepared()} == {"yes\n", "no\n"}
    assert validate.run(params(target="completion", labels=["yes", "no"]))["errors"] == 0


def test_a_separator_in_the_column_of_a_template_is_not_doubled() -> None:
    write([{"text": row["prompt"], "team": row["completion"]} for row in raw("\n\n###\n\n", "", " END", ["a", "b"])])
    prompt = {"user": "Mail: {text}", "assistant": "{team}"}
    report = prepare.run(params(target="completion", prompt=prompt))
    assert report["completion"] == {"separator": "\n\n###\n\n", "lead": "", "stop": " END"}
    assert all(row["prompt"].count("###") == 1 and row["completion"].count("END") == 1 for row in prepared())


def test_a_special_token_at_the_end_of_completions_is_replaced_by_another_stop() -> None:
    """Servers refuse a file that has the token in a text."""
    write(raw(" ->", " ", "<|endoftext|>"))
    report = prepare.run(params(target="completion"))
    assert report["completion"] == {"separator": " ->", "lead": " ", "stop": " END"}
    validate.run(params(target="completion"))


MIXED = [
    ("prompt", lambda text: text.removesuffix(" ->"), "58 of 60 prompts end with ' ->'."),
    ("prompt", lambda text: text.removesuffix(" ->") + "\n\n###\n\n", "58 of 60 prompts end with ' ->'."),
    ("completion", lambda text: text.removesuffix(" END"), "58 of 60 completions end with ' END'."),
    ("completion", lambda text: text.removeprefix(" "), "58 of 60 completions begin with a space."),
]


@pytest.mark.parametrize("target", ["chat", "completion"])
@pytest.mark.parametrize(("key", "change", "message"), MIXED)
def test_a_file_with_marks_in_some_rows_is_refused_with_the_rows(
    target: str, key: str, change: Callable[[str], str], message: str
) -> None:
    rows = raw(" ->", " ", " END")
    for number in (4, 10):
        rows[number - 1][key] = change(rows[number - 1][key])
    write(rows)
    with pytest.raises(FinetuneError) as raised:
        prepare.run(params(target=target))
    assert raised.value.what == f"{message} These do not: row 4; row 10."
    assert "data.prompt" in raised.value.remedy


def test_the_rows_with_a_mark_are_named_where_they_are_fewer() -> None:
    rows = [(f"row {n}", f"question {n}" + " ->" * (n < 20), "a") for n in range(60)]
    with pytest.raises(
        FinetuneError, match=r"20 of 60 prompts end with ' ->'\. These do: row 0; .*; row 9 and 10 more"
    ):
        find_marks(rows)


def test_endings_of_a_few_rows_are_content() -> None:
    rows = raw("", "", "")
    rows[7]["prompt"] += " ->"
    rows[8]["completion"] = "CASE WHEN a THEN b END"
    write(rows)
    report = prepare.run(params())
    assert "found_marks" not in report
    contents = {message["content"] for row in prepared() for message in row["messages"]}
    assert {rows[7]["prompt"], "CASE WHEN a THEN b END"} <= contents


def test_answers_that_are_only_signs_are_no_marks_and_white_space_of_code_is_kept() -> None:
    assert not any(find_marks(("", f"{n}?", ["$$$", "$$", "$"][n % 3]) for n in range(30)).values())
    code = ["    return x\n\ny = 1\n", "\tz\n", "x\n"]
    write([{"prompt": question, "completion": code[n % 3]} for n, question in enumerate(QUESTIONS)])
    assert "found_marks" not in prepare.run(params())
    assert {row["messages"][-1]["content"] for row in prepared()} == set(code)


def test_a_line_break_that_ends_every_completion_and_is_inside_none_is_a_stop() -> None:
    assert find_marks(("", "a", f"{n}\n") for n in range(9))["stop"] == "\n"
    assert find_marks(("", "a", f"{n}\n{n}\n") for n in range(9))["stop"] is None
    assert find_marks(("", "a", f"{n}\n{n}\n\n") for n in range(9))["stop"] == "\n\n"


@pytest.mark.parametrize(
    ("separator", "stop"), [(" →", "END"), ("⇒", "\u3002END"), (" ->", ".END"), ("\n\n###\n\n", "END")]
)
def test_arrows_and_an_end_after_letters_without_spaces_are_marks(separator: str, stop: str) -> None:
    write([{"prompt": f"質問{n * n}{separator}", "completion": f"答え{n}は{stop}"} for n in range(30)])
    report = prepare.run(params(task="generate"))
    assert report["found_marks"] == {"separator": separator, "lead": None, "stop": "END"}
    assert all("END" not in json.dumps(row) and row["messages"][0]["content"][-1].isdigit() for row in prepared())
    assert not any(
        find_marks(
            [("", "q", word) for word in ("APPEND", "THE_END", "FRIEND", "BACK-END", "$END")], refuse=True
        ).values()
    )


def test_a_separator_with_other_white_space_before_it_leaves_none() -> None:
    marks: FoundMarks = {"separator": "\n\n###\n\n", "lead": None, "stop": None}
    texts = ("hello\n\n###\n\n", "hello ###", "hello###", "hello\n###\n")
    assert {without_ending(text, marks["separator"]) for text in texts} == {"hello"}


def test_a_common_beginning_of_prompts_is_content() -> None:
    write([{**row, "prompt": "Summarize: " + row["prompt"]} for row in raw(" ->", " ", " END")])
    prepare.run(params())
    assert all(row["messages"][0]["content"].startswith("Summarize: Where") for row in prepared())


@pytest.mark.parametrize(
    ("prompts", "cue"),
    [
        (["good\nSentiment:", "bad\nSentiment:"], "\nSentiment:"),
        (["good?\n\nFinal answer: ", "bad?\n\nFinal answer: "], "\n\nFinal answer: "),
        (["良い 感情：", "悪い 感情："], " 感情："),
        (["Is it?", "Was it?"], None),
        (["a", "b"], None),
    ],
)
def test_the_last_word_of_all_prompts_may_ask_for_the_answer(prompts: list[str], cue: str | None) -> None:
    assert shared_cue(prompts) == cue


TEXT = st.text(alphabet="ab é京\n#-", max_size=12)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=20), st.sampled_from(MARKS))
def test_texts_come_back_from_rows_with_marks(pairs: list[tuple[str, str]], marks: tuple[str, str, str]) -> None:
    separator, lead, stop = marks
    texts = [(f"q{question}q", f"a{answer}a") for question, answer in pairs]
    rows = [("", question + separator, lead + answer + stop) for question, answer in texts]
    found = find_marks(rows)
    assert [without_marks(prompt, completed, found) for _, prompt, completed in rows] == texts


def test_codes_labels_and_unanswerable_rows_work_with_marks() -> None:
    rows = raw(" ->", " ", " END", ["billing", "delivery"])
    for number, row in enumerate(rows):
        row["no"] = "yes" if number % 10 == 0 else ""
        row["completion"] = ["", None, 7][number % 3] if row["no"] else row["completion"]
    write(rows)
    settings: dict[str, Any] = {"labels": ["billing", "delivery", "none"], "task": "classify"}
    settings |= {"abstain": {"answer": "none", "column": "no"}}
    for target in ("chat", "completion"):
        report = prepare.run(params(target=target, **settings))
        assert report["marked_unanswerable"] == 6
        assert validate.run(params(target=target, **settings))["errors"] == 0
        asked = {row["prompt"] if target == "completion" else row["messages"][0]["content"] for row in prepared()}
        assert asked == {question + (" ->" if target == "completion" else "") for question in QUESTIONS}
    report = prepare.run(params(codes=True, **settings))
    assert report["codes"] == {"billing": "0", "delivery": "1", "none": "2"}
    assert {row["messages"][-1]["content"] for row in prepared()} == {"0", "1", "2"}
    validate.run(params(codes=True, **settings))


def test_the_base_is_asked_with_the_marks_of_the_data_and_lists_of_lines_are_scored() -> None:
    bodies: list[dict[str, Any]] = []

    def right(body: dict[str, Any]) -> Any:
        bodies.append(body)
        number = QUESTIONS.index(body["prompt"].removesuffix(" ->"))
        choice = {"index": 0, "text": " " + LISTS[number % 3], "finish_reason": "stop", "logprobs": None}
        return 200, {**completion(""), "choices": [choice]}, {}

    write(raw(" ->", " ", " END"))
    with server(right) as address:
        made = params(address, target="completion")
        prepare.run(made)
        validate.run(made)
        baseline.run(made)
    assert {body["stop"] for body in bodies} == {" END"}
    rows = [json.loads(line) for line in BASE_ANSWERS.read_text(encoding="utf-8").splitlines()]
    assert {row["asked"] for row in rows} <= set(QUESTIONS)
    values, metrics = extraction([row["expected"] for row in rows], [row["answer"] for row in rows])
    assert {*values["f1"]} == {1.0}
    assert metrics["exact_match"] == 1.0


@pytest.mark.parametrize("target", ["chat", "completion"])
@pytest.mark.parametrize("written", ["hello ->", "hello"])
def test_predict_asks_as_in_training_with_or_without_the_separator(target: str, written: str) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Any:
        bodies.append(body)
        found = completion("Peru")
        return 200, {**found, "choices": [{"index": 0, "text": "Peru"}]} if "prompt" in body else found, {}

    write(raw(" ->", " ", " END"))
    prepare.run(params(target=target))
    write_json(MODEL, {"model": "ft", "prompt": None})
    Path("new.jsonl").write_text(json.dumps({"prompt": written}) + "\n", encoding="utf-8")
    with server(answer) as address:
        rows = predict(params(address, target=target), Path("new.jsonl"), "tuned").rows
    assert [row["answer"] for row in rows] == ["Peru"]
    asked = bodies[0].get("prompt") or bodies[0]["messages"][-1]["content"]
    assert asked == ("hello ->" if target == "completion" else "hello")


def test_marks_are_those_of_all_files() -> None:
    rows = raw(" ->", " ", " END")
    for name, part in (("train", rows[:40]), ("test", rows[40:])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    files: dict[str, Any] = {"file": None, "split": None, "files": {"train": "train.jsonl", "test": "test.jsonl"}}
    assert prepare.run(params(**files))["found_marks"] == {"separator": " ->", "lead": " ", "stop": " END"}
    assert {row["messages"][-1]["content"] for row in prepared()} == set(LISTS)
    Path("test.jsonl").write_text(json.dumps({"prompt": "a", "completion": " b END"}) + "\n", encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"40 of 41 prompts end with ' ->'\. These do not: test\.jsonl, row 1\."):
        prepare.run(params(**files))


def test_chat_takes_a_question_with_its_separator() -> None:
    from finetune.asking import conversation

    sent: list[Any] = []

    def remember(connection: Any, request: Any, limiter: Any) -> Any:
        sent.append(request["prompt"])
        return ParsedAnswer("Peru")

    write(raw(" ->", " ", " END"))
    made = params(target="completion")
    prepare.run(made)
    talk = conversation.Conversation({"base": "m"}, None)
    profile = SimpleNamespace(max_tokens_name="max_tokens")
    connection = cast("Any", SimpleNamespace(profile=profile, client=None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversation, "ask", remember)
        for typed in ("hello", "hello ->"):
            conversation.send(talk, connection, made, typed)
    assert sent == ["hello ->"] * 2
