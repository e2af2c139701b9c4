"""The stages baseline, tuned and evaluate together, with a server whose answers each test defines."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import completion, refusal, server

from finetune.core.disk import read_jsonl, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.flatten import flatten
from finetune.core.params import Params
from finetune.core.paths import LATENCY, MODEL, PREPARED, PREPARED_REPORT, QUESTIONS, TEST_ROWS, TUNED_ANSWERS
from finetune.core.sections.evaluate import Also
from finetune.data.questions import questions_of
from finetune.report.headline import unanswered_sentence
from finetune.scoring.answer_schema import load_schema, validator_of
from finetune.scoring.regression_sets import score_regression_sets
from finetune.stages import baseline, evaluate, tuned

MODEL_ID = "ft:base:me"
Pairs = list[tuple[str, str]]
Model = Callable[[str, str], dict[str, Any]]  # a model's name and a question → a completion


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINETUNE_API_KEY", "k")


def example(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def params_of(address: str, task: str, settings: dict[str, Any]) -> Params:
    return Params.model_validate(
        {
            "data": {"file": "x.csv", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
            "provider": {"name": "compatible", "base_url": address},
            "train": {"base": "base", "method": "supervised", "seed": 1}
            | dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto"),
            "evaluate": {"task": task, "max_tokens": 5, "temperature": 0.0, "concurrency": 8, **settings},
        }
    )


def run(
    pairs: Pairs, model: Model, task: str = "classify", prepared: dict[str, Any] | None = None, **settings: Any
) -> Any:
    """Run the three stages on these test rows with the answers of `model`, and return the metrics."""
    write_jsonl(PREPARED / "test.jsonl", [example(*pair) for pair in pairs])
    write_jsonl(PREPARED / "train.jsonl", [example("early", "yes"), example("late", "no")])
    if not TEST_ROWS.exists() or len(read_jsonl(TEST_ROWS, "prepare")) != len(pairs):
        write_jsonl(TEST_ROWS, [{"question": str(number), "group": number} for number in range(len(pairs))])
    write_json(PREPARED_REPORT, {"codes": {}, "completion": None, "abstain": None} | (prepared or {}))
    checkpoints = [{"step": 5, "model": f"{MODEL_ID}:5"}, {"step": 9, "model": MODEL_ID}]
    write_json(MODEL, {"model": MODEL_ID, "fingerprint": "f", "provider": "compatible", "checkpoints": checkpoints})

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        found = model(body["model"], body["messages"][-1]["content"])
        return (400 if "error" in found else 200), found, {}

    with server(answer) as address:
        params = params_of(address, task, settings)
        write_json(QUESTIONS, questions_of(params))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            baseline.run(params)
            tuned.run(params)
    # The server is stopped: scoring sends no request.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = evaluate.run(params)
    for name, value in flatten(metrics).items():
        assert not isinstance(value, float) or math.isfinite(value), name
    return metrics


def one_token(text: str, share: float, other: str) -> dict[str, Any]:
    """Return a completion of one token with this probability; the other token has the rest."""
    tops = [(text, math.log(share)), (other, math.log(1 - share))]
    tokens = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in tops]
    return completion(text, logprobs={"content": [{**tokens[0], "top_logprobs": tokens}]})


ASKED = [(f"question {number}", "yes" if number % 2 else "no") for number in range(40)]


def half_right(model: str, question: str) -> dict[str, Any]:
    """Answer as the base, always yes; or as the tuned model, wrong in one row of ten, in which the base is right."""
    number = int(question.split()[-1])
    says_yes = model == "base" or (number % 2 == 1) == (number % 10 != 1)
    return one_token("yes", 0.6, "no") if says_yes else one_token("no", 0.9, "yes")


def test_all_metrics_and_tables_of_a_task_with_two_classes() -> None:
    write_jsonl(Path("general.jsonl"), [example("question 1", "yes"), example("question 2", "no")])
    write_jsonl(TEST_ROWS, [{"question": str(n), "group": n, "by": "de" if n < 25 else "ja"} for n in range(40)])
    metrics = run(
        ASKED,
        half_right,
        few_shot=2,
        beta=0.5,
        compare=["checkpoints"],
        also={"general": {"file": "general.jsonl", "task": "classify", "margin": 0.1}},
        graders={"same": {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "yes"}
                 | {"operation": "eq"}},
        require={"tuned.accuracy": ">= 0.99", "also.general.kept": "== 1"},
    )  # fmt: skip
    assert metrics["base"]["accuracy"] == 0.5
    assert metrics["tuned"]["accuracy"] == 0.9
    assert {"auroc", "auprc", "log_loss", "calibration_error", "outside", "f_beta", "macro_f1"} <= set(metrics["tuned"])
    assert metrics["tuned"]["auroc"] > 0.8 > 0.6 > metrics["base"]["auroc"]
    assert metrics["lift"]["wins"] == 20
    assert metrics["lift_over_few_shot"]["accuracy"] == 0.4
    assert metrics["checkpoints"]["5"]["accuracy"] == 0.9
    assert metrics["checkpoints"]["5"]["lift"]["accuracy"] == 0.0
    assert metrics["graders"]["same"]["base"]["score"] == 1.0
    assert metrics["graders"]["same"]["checkpoints"]["5"]["score"] == metrics["graders"]["same"]["tuned"]["score"]
    assert metrics["also"]["general"]["n"] == 2
    assert metrics["gates_failed"] == ["tuned.accuracy is 0.9, not >= 0.99", "also.general.kept is 0, not == 1"]
    assert metrics["tuned"]["usd_per_1000"] == "unknown"
    assert metrics["saved_prompt_tokens"] == 0.0  # the server reports 10 tokens for every prompt

    text = {name: Path(f"reports/{name}.csv").read_text(encoding="utf-8") for name in ("rows", "groups", "pairs")}
    assert [line.split(",")[0] for line in text["rows"].splitlines()[1:]] == ["lost"] * 4 + ["won"] * 20 + ["wrong"] * 4
    assert text["rows"].splitlines()[-1] == "wrong,question 31,yes,yes,no,1.0,0.0,0.9"
    assert "de,tuned,25," in text["groups"]
    assert text["pairs"].count("\n") == 1 + 6 + 3  # each of four models against those before it, and tuned over floors
    assert not any("seconds" in row for row in read_jsonl(TUNED_ANSWERS, ""))
    latency = json.loads(LATENCY.read_text(encoding="utf-8"))
    assert set(latency) == {"base", "few_shot", "checkpoints.5", "tuned"}
    assert latency["tuned"]["median_ms"] > 0


@pytest.mark.parametrize(
    "logprob", [float("nan"), *(pytest.param(one, marks=pytest.mark.slow) for one in (float("-inf"), None))]
)
def test_log_probabilities_that_are_not_finite(logprob: float | None) -> None:
    logprobs: dict[str, Any] = {"content": [{"token": "yes", "logprob": logprob, "bytes": None, "top_logprobs": []}]}
    metrics = run(ASKED, lambda model, question: completion("yes", logprobs=logprobs))
    assert metrics["tuned"]["no_logprobs"] == 40
    assert metrics["tuned"]["accuracy"] == 0.5


@pytest.mark.parametrize(
    "pairs",
    [ASKED[:1], [ASKED[1], ASKED[3]], [("question 1", "never declared"), ("question 2", "yes")]],
    ids=["one row", "one class", "unseen label"],
)
def test_small_and_unusual_test_splits(pairs: Pairs) -> None:
    metrics = run(pairs, half_right)
    assert metrics["n"] == len(pairs)
    assert "no difference shown" in metrics["lift"]["verdict"]


@pytest.mark.parametrize("task", ["extract", pytest.param("generate", marks=pytest.mark.slow)])
def test_empty_and_broken_answers(task: str) -> None:
    """No text, and JSON that is cut off."""
    texts = {"base": "", MODEL_ID: '["salt", "pep'}
    metrics = run([("a", '["salt"]'), ("b", '["oil"]')], lambda model, question: completion(texts[model]), task)
    assert metrics["base"][metrics["metric"]] == 0.0
    assert metrics["base"].get("json_found", 0.0) == 0.0
    one = run([("a", '["salt"]')], lambda model, question: completion('["salt"]'), task)
    assert one["tuned"][one["metric"]] == 1.0


def test_answers_are_checked_against_a_schema() -> None:
    texts = {"base": '{"name": 5}', MODEL_ID: 'Here you are: {"name": "salt"}'}
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    write_json(Path("answer.json"), schema)
    metrics = run(
        [("a", '{"name": "salt"}')], lambda model, question: completion(texts[model]), "extract", schema="answer.json"
    )
    assert (metrics["base"]["fits_schema"], metrics["tuned"]["fits_schema"]) == (0.0, 1.0)
    write_json(Path("answer.json"), {"type": "thing"})
    with pytest.raises(
        FinetuneError, match=r"evaluate\.schema: answer\.json is not a JSON Schema: 'thing' is not valid"
    ):
        run([("a", "{}")], lambda model, question: completion("{}"), "extract", schema="answer.json")


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/item.json", "other.json", "#/$defs/nothing"])
def test_a_schema_that_refers_to_something_outside_is_refused(reference: str) -> None:
    """Following it would need the network, and the score would depend on what is there."""
    write_json(Path("answer.json"), {"properties": {"name": {"anyOf": [{"type": "string"}, {"$ref": reference}]}}})
    with pytest.raises(FinetuneError, match=r"answer\.json refers to .*, which it does not contain"):
        load_schema("answer.json")


@pytest.mark.parametrize("keyword", ["$defs", "definitions"])
def test_references_within_a_schema_are_followed(keyword: str) -> None:
    item = {"type": "object", "properties": {"parts": {"type": "array", "items": {"$ref": f"#/{keyword}/item"}}}}
    write_json(Path("answer.json"), {keyword: {"item": item}, "$ref": f"#/{keyword}/item"})
    validator = validator_of(load_schema("answer.json"))
    assert validator.is_valid({"parts": [{"parts": []}]})
    assert not validator.is_valid({"parts": [{"parts": 3}]})


def test_a_regression_set_that_was_not_asked_is_an_error() -> None:
    settings = Also(file="data/also/new.jsonl", task="classify", margin=0.1)
    with pytest.raises(FinetuneError, match=r"evaluate\.also\.new: the models have not answered this set"):
        score_regression_sets({"new": settings}, [], [])


def test_an_empty_test_split_is_an_error() -> None:
    with pytest.raises(FinetuneError, match=r"test\.jsonl is empty"):
        run([], half_right)


def test_refused_rows_are_counted_and_count_as_wrong() -> None:
    def refusing_two(model: str, question: str) -> dict[str, Any]:
        refused = model == MODEL_ID and question in ("question 3", "question 5")
        return refusal("content_filter") if refused else half_right(model, question)

    metrics = run(ASKED, refusing_two)
    assert (metrics["base"]["failed"], metrics["tuned"]["failed"]) == (0, 2)
    assert metrics["tuned"]["accuracy"] == 0.85
    refused = [row for row in read_jsonl(TUNED_ANSWERS, "") if "error" in row]
    assert [row["asked"] for row in refused] == ["question 3", "question 5"]


def test_abstention_is_measured() -> None:
    pairs = [*ASKED[:6], ("question 7", "I cannot tell."), ("question 8", "I cannot tell.")]
    answers = {"question 7": "I cannot tell.", "question 5": "I cannot tell."}
    metrics = run(
        pairs, lambda model, question: completion(answers.get(question, "yes")), prepared={"abstain": "I cannot tell."}
    )
    assert metrics["tuned"]["abstention_precision"] == 0.5
    assert metrics["tuned"]["abstention_recall"] == 0.5


def test_a_judge_that_always_prefers_the_first_answer_finds_no_winner() -> None:
    def model(name: str, question: str) -> dict[str, Any]:
        return completion("A") if name == "judge" else half_right(name, question)

    metrics = run(ASKED[:8], model, judge={"model": "judge"})
    assert (metrics["judge"]["wins"], metrics["judge"]["losses"], metrics["judge"]["flipped"]) == (0, 0, 8)
    assert metrics["judge"]["first_share"] == 1.0


TONE = {
    "type": "score_model",
    "model": "grader",
    "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
}


def test_a_grader_that_asks_a_model_is_scored_from_its_replies() -> None:
    def model(name: str, question: str) -> dict[str, Any]:
        reply = '{"result": 1}' if question == "yes" else '{"result": 0.5}' if question == "no" else "no idea"
        return completion(reply) if name == "grader" else half_right(name, question)

    metrics = run(ASKED, model, graders={"tone": TONE})
    tone = metrics["graders"]["tone"]
    assert tone["base"]["score"] == 1.0
    assert tone["tuned"]["score"] == 0.7
    assert tone["lift"]["score"] == -0.3
    assert "tone" not in metrics["tuned"]


def test_scoring_again_needs_no_server_and_gives_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate, a margin, beta and a grader that asks no model change. There is no server."""
    write_jsonl(Path("general.jsonl"), [example("question 1", "yes"), example("question 2", "no")])
    also = {"general": {"file": "general.jsonl", "task": "classify", "margin": 0.1}}
    judge = {"model": "judge"}

    def model(name: str, question: str) -> dict[str, Any]:
        return completion("A") if name == "judge" else half_right(name, question)

    first = run(ASKED, model, also=also, judge=judge, require={"tuned.accuracy": ">= 0.5"})
    monkeypatch.delenv("FINETUNE_API_KEY")
    monkeypatch.setenv("FINETUNE_HOME", "/nowhere")
    also["general"]["margin"] = 0.9
    same = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "yes", "operation": "eq"}
    changed: dict[str, Any] = {"also": also, "judge": judge, "beta": 2.0, "graders": {"same": same}}
    changed["require"] = {"tuned.accuracy": ">= 0.99"}
    again: Any = evaluate.run(params_of("http://127.0.0.1:9/v1", "classify", changed))
    assert again["gates_failed"] == ["tuned.accuracy is 0.9, not >= 0.99"]
    for key in ("base", "lift", "judge"):
        assert {**again[key], "f_beta": None} == {**first[key], "f_beta": None}
    assert again["graders"]["same"]["base"]["score"] == 1.0


def test_parameters_that_only_scoring_reads_change_no_question() -> None:
    run(ASKED, half_right)
    before = questions_of(params_of("http://a/v1", "classify", {}))
    free: dict[str, Any] = {
        "beta": 2.0,
        "require": {"tuned.accuracy": "> 0"},
        "graders": {"same": {"type": "string_check", "input": "a", "reference": "b", "operation": "eq"}},
        "concurrency": 2,
    }
    assert questions_of(params_of("http://a/v1", "classify", free)) == before
    for paid in (
        {"max_tokens": 9},
        {"few_shot": 1},
        {"compare": ["v1"]},
        {"judge": {"model": "m"}},
        {"graders": {"t": TONE}},
    ):
        assert questions_of(params_of("http://a/v1", "classify", paid)) != before


def test_asking_with_questions_of_other_parameters_is_refused() -> None:
    run(ASKED, half_right)
    with pytest.raises(FinetuneError, match="dvc repro validate"):
        baseline.run(params_of("http://127.0.0.1:9/v1", "classify", {"max_tokens": 9}))


@pytest.mark.slow
def test_names_that_users_choose_replace_no_key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags, regression sets and graders have the names of our keys; two revisions differ in one sign."""
    write_jsonl(Path("also.jsonl"), [example("question 1", "yes")])
    names = ["base", "tuned", "lift", "also", "metric", "task", "HEAD~2", "HEAD^2", "v1.0"]
    models = {name: f"ft:{number}" for number, name in enumerate(names)}
    wrong = {"ft:6": "question 6", "ft:7": "question 7"}  # the row that HEAD~2 and HEAD^2 answer wrong
    monkeypatch.setattr(
        "finetune.asking.compared_models.record_at", lambda name: {"provider": "compatible", "model": models[name]}
    )

    monkeypatch.setattr("finetune.asking.compared_models.commit_of", lambda name: "0123456789ab")

    def model(name: str, question: str) -> dict[str, Any]:
        if name in models.values():
            return completion("?" if wrong.get(name) == question else dict(ASKED)[question])
        return half_right(name, question)

    grader = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "yes", "operation": "eq"}
    plain = run(ASKED, half_right)
    metrics = run(
        ASKED,
        model,
        compare=names,
        also={name: {"file": "also.jsonl", "task": "classify", "margin": 0.1} for name in ("base", "lift")},
        graders={"accuracy": grader, "base": grader},
        require={"compared.base.accuracy": "== 1", "compared.v1.0.accuracy": "== 1", "graders.base.tuned.score": "< 1"},
    )
    for key in ("base", "tuned", "metric", "task", "n"):
        assert metrics[key] == plain[key], key
    corrected = {"verdict", "p_holm"}  # depend on the number of models
    assert metrics["lift"].keys() == plain["lift"].keys()
    assert all(metrics["lift"][key] == value for key, value in plain["lift"].items() if key not in corrected)
    assert set(metrics["compared"]) == set(names)
    assert metrics["gates_failed"] == []
    assert {one["commit"] for one in metrics["compared"].values()} == {"0123456789ab"}
    text = Path("reports/confusion_base.csv").read_text(encoding="utf-8")
    assert text.count("no,yes") == 20
    models_in_table = [
        line.split(",")[0] for line in Path("reports/classes.csv").read_text(encoding="utf-8").splitlines()
    ]
    assert models_in_table.count("base") == models_in_table.count("compared.base") == 2
    pairs = Path("reports/pairs.csv").read_text(encoding="utf-8")
    assert "compared.HEAD^2,compared.HEAD~2" in pairs


def test_a_revision_called_checkpoints_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.asking.compared_models.is_revision", lambda name: name == "checkpoints")
    with pytest.raises(FinetuneError, match=r"evaluate\.compare: 'checkpoints'[\s\S]*tags/checkpoints"):
        run(ASKED, half_right, compare=["checkpoints"])


def test_a_name_that_means_another_commit_later_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "finetune.asking.compared_models.record_at", lambda name: {"provider": "compatible", "model": "m"}
    )
    monkeypatch.setattr("finetune.asking.compared_models.is_pinned", lambda name: name == "v1")
    monkeypatch.setattr("finetune.asking.compared_models.commit_of", lambda name: "0123456789ab")
    run(ASKED, half_right, compare=["v1", "main"])
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert "'main' is commit 0123456789ab now" in warned[0]


def test_two_figures_of_one_name_are_refused() -> None:
    with pytest.raises(FinetuneError, match=r"compared\.v1\.lift\.chrf"):
        flatten({"compared": {"v1": {"lift": {"chrf": 1}}, "v1.lift": {"chrf": 2}}})


def test_answers_that_were_cut_are_counted_and_the_length_to_set_is_named() -> None:
    said: list[str] = []

    def model(name: str, question: str) -> dict[str, Any]:
        text = "a very long" if name != "base" and question in ("q1", "q2") else "short"
        found = completion(text)
        found["choices"][0]["finish_reason"] = "length" if text != "short" else "stop"
        return found | {"usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}

    pairs = [(f"q{n}", "a very long answer of many words") for n in range(8)]
    metrics = run(pairs, model, "generate")
    assert (metrics["base"]["cut"], metrics["tuned"]["cut"]) == (0, 2)
    evaluate.run(params_of("http://127.0.0.1:9/v1", "generate", {}), said.append)
    # 32 letters, at 5 tokens for 11 letters, and a fifth more
    assert "2 of 8 answers of the tuned model were cut at evaluate.max_tokens, 5" in said[0]
    assert "Set it to 18." in said[0]


def test_without_gates_nothing_is_said_of_them() -> None:
    assert "gates_met" not in run(ASKED, half_right)


def test_models_are_compared_by_the_metric_of_the_params() -> None:
    metrics = run(ASKED, half_right, metric="macro_f1", require={"lift.macro_f1_low": "> 0"})
    assert metrics["metric"] == "macro_f1"
    assert metrics["lift"]["macro_f1"] == round(metrics["tuned"]["macro_f1"] - metrics["base"]["macro_f1"], 4)
    assert "macro_f1" in metrics["lift"]["verdict"]
    assert metrics["gates_failed"] == []
    table = Path("reports/metrics.csv").read_text(encoding="utf-8")
    assert table.startswith("metric,model,value,low,high,difference,")
    assert "\nrecall,base," in table


@pytest.mark.parametrize("form", ["error", pytest.param("refusal", marks=pytest.mark.slow)])
def test_rows_that_the_base_did_not_answer_are_told_with_the_lift_on_the_others(form: str) -> None:
    refused = completion("")
    refused["choices"][0]["message"] |= {"content": None, "refusal": "I cannot help with that."}

    def model(name: str, question: str) -> Any:
        refuses = name == "base" and int(question.split()[-1]) % 4 == 1  # the base is right in these rows
        if refuses:
            return refusal("content_filter") if form == "error" else refused
        return half_right(name, question)

    metrics = run(ASKED, model)
    found = metrics["lift_on_answered"]
    assert (found["n"], found["base_unanswered"], found["tuned_unanswered"]) == (30, 10, 0)
    assert (metrics["base"]["failed"], metrics["base"]["refused"]) == ((10, 0) if form == "error" else (0, 10))
    assert found["lift"] < metrics["lift"]["accuracy"]
    assert unanswered_sentence(metrics).startswith(
        "The base model did not answer 10 of 40 test rows, which count as wrong. On the 30 rows that both answered: "
    )


@pytest.mark.parametrize("form", ["refusal", pytest.param("content_filter", marks=pytest.mark.slow)])
def test_a_refusal_that_begins_like_a_class_is_wrong(form: str) -> None:
    def model(name: str, question: str) -> Any:
        if name == "base":
            return completion("yes")
        found = completion("No", finish_reason="content_filter") if form == "content_filter" else completion("")
        if form == "refusal":
            found["choices"][0]["message"] |= {"content": None, "refusal": "No, I cannot help with that."}
        return found

    write_jsonl(Path("also.jsonl"), [example(f"question {n}", "no") for n in range(20)])
    also = {"general": {"file": "also.jsonl", "task": "classify", "margin": 0.1}}
    metrics = run(ASKED, model, also=also)
    assert (metrics["tuned"]["accuracy"], metrics["tuned"]["refused"]) == (0.0, 40)
    assert metrics["also"]["general"]["tuned"] == 0.0
    assert metrics["floors"]["majority"]["accuracy"] > 0  # the floors did not refuse
    assert unanswered_sentence(metrics).startswith("The tuned model did not answer 40 of 40 test rows, which count")


def test_regression_rows_that_the_base_did_not_answer_are_left_out() -> None:
    write_jsonl(Path("also.jsonl"), [example(f"question {n}", "yes") for n in range(1, 41, 2)])

    def model(name: str, question: str) -> Any:
        refuses = {"base": "question 9", MODEL_ID: "question 11"}.get(name) == question
        return refusal("content_filter") if refuses else completion("yes")

    also = {"general": {"file": "also.jsonl", "task": "classify", "margin": 0.1}}
    found = run(ASKED, model, also=also)["also"]["general"]
    assert (found["n"], found["base_unanswered"], found["tuned_unanswered"]) == (19, 1, 1)
    assert found["lift"] == -0.0526
    assert found["verdict"].endswith("1 row that the tuned model did not answer counts as wrong")


@pytest.mark.parametrize(
    ("task", "metric"), [("extract", "f1_micro"), ("extract", "strict_json"), ("generate", "bleu")]
)
def test_any_metric_may_decide_the_verdict(task: str, metric: str) -> None:
    """The base answers right half of the time, and the tuned model always."""
    pairs = [(f"question {n}", f'["item {n}", "and this one too"]') for n in range(20)]
    answers = dict(pairs)

    def model(name: str, question: str) -> dict[str, Any]:
        is_right = name == MODEL_ID or int(question.split()[1]) % 2
        return completion(answers[question] if is_right else "I cannot tell you which")

    metrics = run(pairs, model, task, metric=metric, require={f"lift.{metric}_low": "> 0"})
    assert metrics["metric"] == metric
    assert metrics["gates_met"] == 1
    assert metrics["lift"][metric] == pytest.approx(metrics["tuned"][metric] - metrics["base"][metric], abs=2e-3)
    assert f"{metric},base," in Path("reports/metrics.csv").read_text(encoding="utf-8")


def test_how_many_answers_needed_lenience_is_told_of_each_model() -> None:
    metrics = run(ASKED, lambda name, question: completion("yes" if name == MODEL_ID else "I say: **Yes**."))
    assert (metrics["base"]["lenient"], metrics["tuned"]["lenient"]) == (1.0, 0.0)
    assert metrics["base"]["accuracy"] == metrics["tuned"]["accuracy"]
    metrics = run(ASKED, lambda name, question: completion("yes" if name == MODEL_ID else "not yes"))
    assert (metrics["base"]["no_class"], metrics["base"]["accuracy"]) == (1.0, 0.0)
