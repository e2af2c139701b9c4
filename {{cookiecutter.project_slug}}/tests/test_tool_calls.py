"""Rows whose right answer is a call of a tool: they are asked with their tools, and the calls are what is compared."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from init_project import done, lines, project, values
from loopback import completion, server

from finetune.asking.base_answers import write_base_answers
from finetune.asking.conversation import system_prompt
from finetune.asking.file_rows import answer_rows
from finetune.asking.row_prompts import AskedRow, questions_of
from finetune.asking.split_answers import ask_examples
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.records.settings import AnswerSettings
from finetune.core.sections.evaluate import Also, Evaluate
from finetune.core.sections.provider import Provider
from finetune.core.tool_calls import calls_as_json
from finetune.data.answered_questions import answer_in
from finetune.data.checks.check_file import check_file
from finetune.data.examples import declared_in
from finetune.data.questions import few_shot_examples, regression_examples, without_tools
from finetune.data.redaction import redact
from finetune.data.regression_groups import groups_of_examples
from finetune.export.measure import refuse_tools
from finetune.provider.answer_parser import parse_answer
from finetune.provider.connect import connect
from finetune.provider.given_answers import scoring_request
from finetune.report.data_page import turns
from finetune.rescue.questions import questions_in_rows
from finetune.scoring.extract import extraction
from finetune.scoring.graders.local import sample_of
from finetune.scoring.graders.templates import render, variables
from finetune.stages.validate import check_expected

__all__ = ["project"]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}},
}
SETTINGS = Evaluate(max_tokens=40, temperature=0.0, concurrency=2)
ASKED: Any = {
    "seed": 1,
    "max_tokens": 40,
    "temperature": 0.0,
    "stop": [],
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "completion": None,
}


def call(place: str, name: str = "weather", kind: str = "tool_calls") -> dict[str, Any]:
    """Return a message with one call, as the API writes it: its arguments are a text."""
    function = {"name": name, "arguments": f'{{"place":  "{place}"}}'}
    if kind == "function_call":
        return {"role": "assistant", "content": None, "function_call": function}
    return {"role": "assistant", "tool_calls": [{"id": f"call_{place}", "type": "function", "function": function}]}


def example(place: str, **more: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": f"How is it in {place}?"}
    return {"messages": [asked, call(place)], "tools": [WEATHER], **more}


def written(*places: str) -> str:
    return json.dumps([{"name": "weather", "arguments": {"place": place}} for place in places], ensure_ascii=False)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (call("Köln"), written("Köln")),
        (call("Köln", kind="function_call"), written("Köln")),
        ({"content": "Let me see.", "tool_calls": [*call("Rom")["tool_calls"], *call("Bari")["tool_calls"]]},
         written("Rom", "Bari")),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "no JSON"}}]},
         '[{"name": "f", "arguments": "no JSON"}]'),
        ({"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "x y"}}]},
         '[{"name": "f", "arguments": "x y"}]'),
        ({"tool_calls": [{"function": {"name": "f", "arguments": ""}}]}, '[{"name": "f", "arguments": {}}]'),
        ({"tool_calls": [{"type": "x", "function": {"name": "f", "arguments": {"b": "1", "a": 2}}}]},
         '[{"name": "f", "arguments": {"a": 2, "b": "1"}}]'),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "7"}}]}, '[{"name": "f", "arguments": "7"}]'),
        ({"tool_calls": [{"function": {"name": "f", "arguments": '{"a": NaN}'}}]},
         '[{"name": "f", "arguments": "{\\"a\\": NaN}"}]'),
        ({"tool_calls": [{"function": {"name": "f", "arguments": '{"a": "\\ud83d\\ude00 \\ud83d"}'}}]},
         '[{"name": "f", "arguments": {"a": "\U0001f600 \ufffd"}}]'),
        ({"tool_calls": [*call("Rom")["tool_calls"], {"id": "call_without_function"}]},
         written("Rom")[:-1] + ', {"name": null, "arguments": {}}]'),
        ({"content": "No call.", "function_call": {"name": "", "arguments": ""}}, ""),
        ({"content": "No call."}, ""),
        ({"content": "No call.", "tool_calls": None, "function_call": None}, ""),
        ({"content": "No call.", "tool_calls": []}, ""),
        ({"tool_calls": "damaged"}, ""),
    ],
)  # fmt: skip
def test_calls_are_one_text_without_ids_and_spaces(message: dict[str, Any], text: str) -> None:
    assert calls_as_json(message) == text


def test_rows_are_asked_with_their_tools_and_the_call_is_the_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_API_KEY", "k")
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        bodies.append(body)
        asked = body["messages"][-1]["content"]
        if "Rom" in asked:
            return 200, completion("It is warm."), {}
        return 200, completion("", message=call("Oslo"), finish_reason="tool_calls"), {}

    plain = {"messages": [{"role": "user", "content": "Hello Rom"}, {"role": "assistant", "content": "Hello"}]}
    rows = [example("Oslo", parallel_tool_calls=False), example("Rom", functions=None), plain]
    params = cast("Any", SimpleNamespace(evaluate=SETTINGS))
    with server(answer) as address, connect(Provider(name="compatible", base_url=address)) as connection:
        found = ask_examples(connection, params, cast("AnswerSettings", ASKED), "m", rows)
    by_question = {body["messages"][-1]["content"]: body for body in bodies}
    assert by_question["How is it in Oslo?"]["tools"] == [WEATHER]
    assert by_question["How is it in Oslo?"]["parallel_tool_calls"] is False
    assert by_question["How is it in Rom?"].keys() & {"tools", "functions", "parallel_tool_calls"} == {"tools"}
    assert "tools" not in by_question["Hello Rom"]
    assert [(row["expected"], row["answer"]) for row in found] == [
        (written("Oslo"), written("Oslo")),
        (written("Rom"), "It is warm."),
        ("Hello", "It is warm."),
    ]
    _, metrics = extraction([row["expected"] for row in found[:2]], [row["answer"] for row in found[:2]])
    assert metrics["exact_match"] == 0.5


def test_an_answer_of_a_wrong_type_is_named() -> None:
    wrong = completion("", message={"role": "assistant", "content": None, "tool_calls": "weather"})
    assert "tool_calls" in parse_answer(wrong, None).error


def test_floors_and_few_shot_see_the_same_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = {"input": {"messages": example("Rom")["messages"][:1]}, "preferred_output": [call("Rom")]}
    assert [answer_in(one) for one in (example("Rom"), pair)] == [written("Rom")] * 2
    monkeypatch.chdir(tmp_path)
    Path("data/prepared").mkdir(parents=True)
    rows = [example(place) for place in ("Rom", "Rom", "Oslo")]
    Path("data/prepared/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shots = few_shot_examples(2)
    assert [answer_in(shot) for shot in shots] == [written("Rom"), written("Oslo")]
    with pytest.raises(FinetuneError, match="few_shot cannot show examples with tools"):
        without_tools(shots)
    with pytest.raises(FinetuneError, match="test rows declare tools"):
        refuse_tools(rows)


def test_a_call_beside_a_class_is_named_as_such(tmp_path: Path) -> None:
    rows = [example(f"Rom {number}") for number in range(20)]
    for row in rows:
        row["messages"][-1]["content"] = "travel"
    found = check_file(lines(tmp_path / "a.jsonl", rows), labels=["travel"]).findings
    fixes = {one.fix for one in found if one.code == "unknown_label"}
    assert fixes == {"Remove the calls or the refusal beside it: the answer is a class alone."}


def test_extract_takes_answers_in_words_where_rows_have_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/prepared").mkdir(parents=True)
    said = example("Rom")
    said["messages"][-1] = {"role": "assistant", "content": "Which Rom?"}
    lines(Path("data/prepared/test.jsonl"), [example("Rom"), said])
    check_expected(cast("Any", SimpleNamespace(evaluate=SimpleNamespace(stop=[], task="extract"))))
    expected = [written("Rom"), "Which Rom?"]
    assert extraction(expected, expected)[1]["exact_match"] == 1
    values, _ = extraction(expected, ["Which Rom?", written("Rom")])
    assert (values["exact_match"], values["same_items"]) == ([0, 0], [0, 0])


def test_init_proposes_extract(project: Path, tmp_path: Path) -> None:
    places = ["Ulm", "Jena", "Kassel", "Leeds", "Ghent", "Bath", "Cork", "Lyon", "Bern", "Graz", "Derby", "Namur"]
    rows = [example(f"{place} {number}") for place in places for number in (7, 40, 311, 2088)]
    done(lines(tmp_path / "calls.jsonl", rows))
    assert values()["evaluate"]["task"] == "extract"
    assert values()["evaluate"]["few_shot"] == 0


def test_few_shot_is_0_for_tools_in_every_format(project: Path, tmp_path: Path) -> None:
    places = ["Ulm", "Jena", "Kassel", "Leeds", "Ghent", "Bath", "Cork", "Lyon", "Bern", "Graz", "Derby", "Namur"]
    done(
        lines(tmp_path / "calls.jsonl", [sharegpt(f"{place} {number}") for place in places for number in (7, 40, 311)])
    )
    assert values()["evaluate"]["few_shot"] == 0


def sharegpt(place: str) -> dict[str, Any]:
    """Return a row of ShareGPT with tools as JSON in a text, as data sets of calls have them."""
    said = {"name": "weather", "arguments": {"place": place}}
    turns = [{"from": "human", "value": f"How is it in {place}?"}, {"from": "function_call", "value": json.dumps(said)}]
    return {"conversations": turns, "tools": json.dumps([WEATHER["function"]])}


def test_predict_asks_rows_as_they_are_trained(project: Path) -> None:
    bare = {**example("Rom"), "tools": json.dumps([WEATHER["function"]]), "functions": [], "parallel_tool_calls": None}
    params = load_params()
    params = params.model_copy(update={"data": params.data.model_copy(update={"prompt": None})})
    found = questions_of(params, [sharegpt("Rom"), bare], Path("rows.jsonl"), None, tuned=False)
    asked = [{"role": "user", "content": "How is it in Rom?"}]
    assert found == [(asked, {"tools": [WEATHER]})] * 2


def test_a_question_and_its_tools_have_the_same_placeholders() -> None:
    row = {"messages": [{"role": "user", "content": "Mail a@b.org"}], "tools": [{"description": "Not to c@d.org"}]}
    asked, declared = redact((row["messages"], {"tools": row["tools"]}), ["email"])
    assert {"messages": asked, "tools": declared["tools"]} == redact(row, ["email"])


def test_a_regression_set_may_have_calls(tmp_path: Path) -> None:
    result = {"role": "tool", "tool_call_id": "call_Rom", "content": "It is warm."}
    first = example("Rom")
    later = {**first, "messages": [*first["messages"], result, {"role": "assistant", "content": "Warm."}]}
    settings = Also(file=str(lines(tmp_path / "also.jsonl", [first, later])), task="extract", max_tokens=40, margin=0.1)
    assert regression_examples("calls", settings) == [first, later]
    assert groups_of_examples([first, later], "group") == [0, 0]


def test_what_a_server_refuses_is_not_declared() -> None:
    functions = [WEATHER["function"]]
    assert declared_in({"tools": [], "functions": functions, "parallel_tool_calls": False}) == {"functions": functions}
    assert declared_in({"tools": [], "parallel_tool_calls": False}) == {}


def test_rescue_leaves_rows_with_tools_out(project: Path, tmp_path: Path) -> None:
    params = load_params()
    params = params.model_copy(update={"data": params.data.model_copy(update={"prompt": None})})
    plain = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]}
    asked = questions_in_rows(params, lines(tmp_path / "rows.jsonl", [{**plain, "tools": None}, example("Rom")]))
    assert len(asked.prompts) == 1
    assert asked.left_out == {"calls of tools": 1}


def test_replay_refuses_questions_with_tools(project: Path, tmp_path: Path) -> None:
    file = lines(tmp_path / "questions.jsonl", [example("Rom"), example("Oslo")])
    with pytest.raises(FinetuneError, match="2 rows declare tools"):
        write_base_answers(load_params(), file, tmp_path / "own.jsonl", 40)


def test_ask_says_that_no_tools_are_sent(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = load_params()
    params = params.model_copy(update={"data": params.data.model_copy(update={"prompt": None})})
    Path("data/prepared").mkdir(parents=True)
    lines(Path("data/prepared/train.jsonl"), [example("Rom")])
    assert system_prompt(params) is None
    assert "the training rows declare tools" in capsys.readouterr().err


def test_the_data_page_shows_the_calls_beside_a_text() -> None:
    shown = turns({"messages": [{**call("Rom"), "content": "Let me see."}]})
    assert "Let me see." in shown
    assert "weather" in shown


def test_margins_are_asked_with_the_functions() -> None:
    connection = cast("Any", SimpleNamespace(profile=SimpleNamespace(max_tokens_name="max_tokens")))
    one = {"messages": [call("Rom", kind="function_call")], "functions": [WEATHER["function"]]}
    assert scoring_request(connection, "m", one)["functions"] == one["functions"]


def test_graders_see_the_calls_as_the_api_gives_them() -> None:
    function = {"name": "weather", "arguments": '{"place": "Rom"}'}
    assert sample_of(written("Rom"))["output_tools"] == [{"type": "function", "function": function}]
    known = variables({"asked": "", "expected": ""}, written("Rom"))
    assert render("{{ sample.output_tools[0].function.name }}", known) == "weather"
    assert sample_of('[{"name": "Rom"}]')["output_tools"] == []


def test_predict_sends_the_tools_of_a_row(monkeypatch: pytest.MonkeyPatch, project: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_API_KEY", "k")
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        bodies.append(body)
        return 200, completion("", message=call("Oslo"), finish_reason="tool_calls"), {}

    with server(answer) as address:
        params = load_params().model_copy(update={"provider": Provider(name="compatible", base_url=address)})
        asked: list[AskedRow] = [ValueError("no question"), (example("Oslo")["messages"][:1], {"tools": [WEATHER]})]
        added, _ = answer_rows(params, "m", asked, lambda *_: None)
    assert [body["tools"] for body in bodies] == [[WEATHER]]
    assert [row["answer"] for row in added][1] == written("Oslo")
    assert added[0]["error"] == "no question"
