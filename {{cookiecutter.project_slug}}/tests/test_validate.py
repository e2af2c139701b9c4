"""The stage validate and the budget: the report on good data, the warnings, and the errors."""

import datetime
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, PREPARED_REPORT, TEST_ROWS, VALIDATION_REPORT
from finetune.core.sections.evaluate import Also
from finetune.data.checks.across_files import check_languages, check_missing_classes
from finetune.data.checks.check_file import check_file
from finetune.data.questions import regression_examples
from finetune.pricing import catalogue
from finetune.project import budget, health
from finetune.project.ledger import add_job
from finetune.project.validation_estimate import report_of
from finetune.scoring.detectable_difference import detectable_difference
from finetune.stages import validate
from finetune.terminal.summaries import validate_summary

MODEL = "gpt-4.1-mini-2025-04-14"
TEAMS = ["delivery", "billing"]


def example(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path: Path, examples: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in examples), encoding="utf-8")
    return path


def params(name: str = "openai", base: str = MODEL, n_epochs: Any = "auto", **limits: float) -> Params:
    return Params.model_validate(
        {
            "data": {"file": "x.csv", "labels": TEAMS, "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
            "provider": {"name": name},
            "train": {"base": base, "method": "supervised", "seed": 1, "n_epochs": n_epochs, "budget": limits}
            | dict.fromkeys(("batch_size", "learning_rate_multiplier"), "auto"),
            "evaluate": {"max_tokens": 5, "temperature": 0.0, "concurrency": 8},
        }
    )


WORDS = ["parcel", "courier", "invoice", "refund", "address", "window", "garden", "kettle", "lamp", "carpet", "ladder"]


@pytest.fixture
def _prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(PREPARED_REPORT, {"codes": {}, "completion": None})
    for split, numbers in (("train", range(60)), ("valid", range(60, 70)), ("test", range(70, 90))):
        asked = [" ".join(WORDS[(n * k + k) % len(WORDS)] + str(n * k) for k in range(1, 9)) for n in numbers]
        write(PREPARED / f"{split}.jsonl", [example(text, TEAMS[n % 2]) for n, text in enumerate(asked)])


@pytest.mark.usefixtures("_prepared")
def test_the_report_holds_tokens_dollars_and_break_even() -> None:
    report: Any = validate.run(params())
    assert report["examples"] == {"train": 60, "valid": 10, "test": 20}
    auto = report["auto"]
    assert auto["n_epochs"] == 3
    assert auto["billed_tokens"] == 3 * report["train_tokens_per_epoch"]
    assert auto["train_usd"] == pytest.approx(auto["billed_tokens"] * 5 / 1e6, abs=1e-4)
    assert 0 < report["evaluate_usd_at_most"]["base"] < report["evaluate_usd_at_most"]["tuned"]
    # Ten more examples in each prompt of the base cost more than the higher prices of the tuned model.
    prompt, answer = report["break_even"]["prompt_tokens"], 1
    saved = (prompt["few_shot"] * 0.4 + answer * 1.6 - prompt["tuned"] * 0.8 - answer * 3.2) / 1e6
    assert report["break_even_calls"] == pytest.approx(auto["train_usd"] / saved, rel=0.01)
    assert report["break_even"]["examples"] == 10
    unknown = validate.run(params("compatible", "some/model"))
    assert unknown["break_even_calls"] == unknown["auto"]["train_usd"] == "unknown"


@pytest.mark.usefixtures("_prepared")
def test_the_report_estimates_the_epochs_of_the_project() -> None:
    report, auto = validate.run(params(n_epochs=7)), validate.run(params())
    assert report["auto"] == auto["auto"] == auto["planned"]
    assert report["planned"]["n_epochs"] == 7
    assert report["planned"]["billed_tokens"] == 7 * report["train_tokens_per_epoch"]


@pytest.mark.usefixtures("_prepared")
def test_the_report_and_the_page_say_which_difference_the_test_split_can_show() -> None:
    report = validate.run(params())
    assert report["detectable_difference"] == detectable_difference("classify", 20)
    points = math.ceil(100 * (report["detectable_difference"] or 0))
    words = f"ith 20 test rows, a difference of {points} points can be shown"
    assert words in validate.PAGE.read_text(encoding="utf-8")
    assert json.loads(VALIDATION_REPORT.read_text(encoding="utf-8")) == report


@pytest.mark.usefixtures("_prepared")
def test_groups_of_test_rows_count_as_fewer_rows() -> None:
    groups = [number // 2 for number in range(20)]
    write_jsonl(TEST_ROWS, [{"question": str(number), "group": group} for number, group in enumerate(groups)])
    report = validate.run(params())
    assert report["test_groups"] == 10
    assert report["detectable_difference"] == detectable_difference("classify", 20, groups)
    assert "ith 20 test rows in 10 groups, a difference of" in validate.PAGE.read_text(encoding="utf-8")


@pytest.mark.usefixtures("_prepared")
def test_a_base_that_is_an_alias_is_warned_of_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    set_day("2026-05-01", monkeypatch)
    said: list[str] = []
    alias = validate.run(params(base="gpt-4.1-mini"), say=said.append)
    assert len(said) == 1
    assert "train.base: 'gpt-4.1-mini' is an alias" in said[0]
    assert f"taken as {MODEL!r}" in said[0]
    said.clear()
    assert validate.run(params(), say=said.append) == alias
    assert said == []


def set_day(day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Day(datetime.date):
        @classmethod
        def today(cls) -> "Day":
            return cls.fromisoformat(day)

    for module in (validate, health):
        monkeypatch.setattr(module, "datetime", SimpleNamespace(date=Day, timedelta=datetime.timedelta))


CLOSING = "'openai' accepts no new fine-tuning jobs from 2027-01-06, in 17 days."
CLOSED = "'openai' accepts no new fine-tuning jobs since 2027-01-06."
HAD_JOBS = "Since 2026-05-07, 'openai' takes jobs only from accounts that had some before."
TRAINED_IT = f"Since 2026-10-14, 'azure' trains {MODEL} only for accounts that trained it before."
DAYS = ("2026-12-20", "2027-01-10", "2027-05-01")
NEWCOMERS_BASES = {
    "azure": "Ministral-3B",
    "nebius": "meta-llama/Llama-3.1-8B-Instruct",
    "local": "SmolLM2-135M-Instruct",
    "compatible": "SmolLM2-135M-Instruct",
}


@pytest.mark.usefixtures("_prepared")
@pytest.mark.parametrize(
    ("provider", "base", "day", "ends", "closed"),
    [
        (
            "openai", MODEL, DAYS[0],
            [CLOSING, f"{MODEL} and its fine-tunes will be shut down on 2027-01-14, in 25 days."], HAD_JOBS,
        ),
        (
            "openai", MODEL, DAYS[1],
            [CLOSED, f"{MODEL} and its fine-tunes will be shut down on 2027-01-14, in 4 days."], None,
        ),
        (
            "openai", MODEL, DAYS[2],
            [CLOSED, f"{MODEL} was shut down on 2027-01-14, and its fine-tunes with it."], None,
        ),
        ("azure", MODEL, DAYS[0], [], TRAINED_IT),
        ("azure", MODEL, DAYS[1], [], TRAINED_IT),
        (
            "azure", MODEL, "2027-01-20",
            [f"Training of {MODEL} ends no earlier than 2027-04-14, in 84 days."], TRAINED_IT,
        ),
        (
            "azure", MODEL, DAYS[2],
            [f"'azure' may have ended the training of {MODEL}: it announced this for no earlier than 2027-04-14."],
            TRAINED_IT,
        ),
        *((provider, base, day, [], None) for provider, base in NEWCOMERS_BASES.items() for day in DAYS),
    ],
)  # fmt: skip
def test_validate_and_doctor_say_what_ends_and_who_can_train(
    provider: str, base: str, day: str, ends: list[str], closed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On three days, for each provider with its default base, and for a base that Azure trains for old customers."""
    set_day(day, monkeypatch)
    said: list[str] = []
    settings = params(provider, base)
    if base == "Ministral-3B":
        train = settings.train.model_copy(update={"training_type": "GlobalStandard"})
        settings = settings.model_copy(update={"train": train})
    validate.check_settings(settings, said.append)
    assert said == [f"warning: {one}" for one in (*ends, closed) if one]
    write_json(Path("models/model.json"), {})  # who has trained here is no newcomer
    said.clear()
    validate.check_settings(settings, said.append)
    assert said == [f"warning: {one}" for one in ends]
    checks = {check.check: check for check in health.check_training(settings)}
    training = checks["training"]
    if CLOSED in ends:
        assert (training.state, training.found) == ("wrong", f"{CLOSED[:-1]}. Nothing was sent.")
    elif ends:
        assert (training.state, training.found) == ("warning", " ".join(ends))
    else:
        assert training.state == "ok"
    assert bool(training.todo) == bool(ends)
    account = checks.get("account")
    assert (account and account.found) == closed


@pytest.mark.usefixtures("_prepared")
def test_the_command_prints_the_estimate_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.core.params.load_params", lambda: params("local", "some/model", 7))
    first = CliRunner().invoke(app, ["validate"])
    assert first.exit_code == 0, first.output
    assert "validate: training: local, 7 epochs of some/model, " in first.output
    assert "min" not in first.output.split("training: ")[1].split("\n")[0]
    add_job(
        {
            "job": "ftjob-1",
            "provider": "local",
            "base": "some/model",
            "n_epochs": 1,
            "counted_tokens": 1_000_000,
            "billed_tokens": 1_000_000,
            "estimated_usd": 0.0,
            "billed_usd": 0.0,
            "estimated_seconds": "unknown",
            "seconds": 40_030,
        }
    )
    second = CliRunner().invoke(app, ["validate"])
    assert "about 8 min (corrected by 1 earlier job on this base)" in second.output


@pytest.mark.usefixtures("_prepared")
def test_the_page_shows_counts_classes_and_examples() -> None:
    first = json.loads((PREPARED / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    first["messages"][0]["content"] += " <script>alert(1)</script>"
    lines = (PREPARED / "train.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    (PREPARED / "train.jsonl").write_text("\n".join([json.dumps(first), *lines]) + "\n", encoding="utf-8")
    validate.run(params())
    page = validate.PAGE.read_text(encoding="utf-8")
    assert "60 train, 10 valid, 20 test" in page
    assert "20 training examples at random" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "http" not in page
    assert validate.BALANCE.read_text(encoding="utf-8").splitlines()[1] == "billing,train,30"
    before = validate.PAGE.read_bytes()
    validate.run(params())
    assert validate.PAGE.read_bytes() == before


@pytest.mark.usefixtures("_prepared")
def test_the_page_shows_answers_that_may_be_wrong() -> None:
    about = {"delivery": "the parcel of the courier, box", "billing": "the invoice of a refund, sum"}
    examples = [example(f"{about[TEAMS[n % 2]]} {n * 37}", TEAMS[n % 2]) for n in range(60)]
    examples[11] = example(f"{about['billing']} <b>{'y' * 400}", "delivery")
    write(PREPARED / "train.jsonl", examples)
    validate.run(params())
    section = validate.PAGE.read_text(encoding="utf-8").split("Answers that may be wrong")[1].split("</section>")[0]
    assert "data/prepared/train.jsonl:12</td><td>delivery</td><td>billing</td>" in section
    assert "&lt;b&gt;yyy" in section
    assert "y" * 300 not in section
    write(PREPARED / "train.jsonl", examples[:15])
    validate.run(params())
    assert "looked for in 50 to 2,000 rows, and there are 45" in validate.PAGE.read_text(encoding="utf-8")


@pytest.mark.usefixtures("_prepared")
def test_a_budget_stops_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    report: Any = validate.run(params())
    usd = report["auto"]["train_usd"]
    budget.refuse_over_budget(params())
    budget.refuse_over_budget(params(usd=usd))
    budget.refuse_over_budget(params(usd=usd, n_epochs=2))
    for limits in ({"usd": usd * 0.9}, {"usd": usd, "n_epochs": 4}):
        with pytest.raises(FinetuneError, match=r"would take .* usd; train\.budget\.usd (.|\n)*Nothing was sent"):
            budget.refuse_over_budget(params(**limits))
    with pytest.raises(FinetuneError, match="is unknown"):
        budget.refuse_over_budget(params("compatible", "some/model", usd=1))
    budget.refuse_over_budget(params("local", "SmolLM2-135M-Instruct", usd=0))
    Path("models.toml").write_text(
        '["some/model"]\nseconds = 1e6\n["some/model".compatible]\ntraining = 1\n', encoding="utf-8"
    )
    with pytest.raises(FinetuneError, match=r"minutes; train\.budget\.minutes is 1"):
        budget.refuse_over_budget(params("compatible", "some/model", usd=1, minutes=1))


@pytest.mark.usefixtures("_prepared")
def test_tokens_of_functions_are_not_exact() -> None:
    before: Any = validate.run(params())
    assert before["tokens_exact"] is True
    path = PREPARED / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["tools"] = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    write(path, rows)
    report: Any = validate.run(params())
    assert (report["tokens_exact"], report["tokens_at_least"]) == (False, False)
    assert "about " in validate_summary(report, params(), budget.estimated(params()), 0)


@pytest.mark.usefixtures("_prepared")
def test_images_of_unknown_size_make_totals_at_least_and_limits_unknown() -> None:
    clear: Any = validate.run(params())
    assert (clear["tokens_exact"], clear["tokens_at_least"]) == (True, False)
    assert "at least" not in validate_summary(clear, params(), budget.estimated(params()), 0)
    for split, asked in (("train", "Is this what you have ordered?"), ("test", "Wem gehört das hier?")):
        path = PREPARED / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        rows[0]["messages"][0]["content"] = [{"type": "text", "text": asked}, picture]
        write(path, rows)
    report: Any = validate.run(params())
    assert (report["tokens_exact"], report["tokens_at_least"]) == (False, True)
    assert report["train_tokens_per_epoch"] > 0
    assert report["evaluate_usd_at_most"] == {"base": "unknown", "tuned": "unknown"}
    assert report["break_even_calls"] == "unknown"
    said = validate_summary(report, params(), budget.estimated(params()), 0)
    assert f"at least {report['train_tokens_per_epoch']:,} training tokens per epoch, at least $" in said
    assert " tokens, at least $" in said.splitlines()[1]
    budget.refuse_over_budget(params())
    with pytest.raises(FinetuneError, match=r"train\.budget\.usd is 100, but .* at least"):
        budget.refuse_over_budget(params(usd=100))
    with pytest.raises(FinetuneError, match=r"train\.budget\.total_usd is 100, but .* at least"):
        budget.refuse_over_total(params(total_usd=100))


def test_without_a_training_example_the_cost_is_unknown() -> None:
    base = catalogue.look_up(MODEL, "openai")
    report = report_of(base, {"train": [], "test": [10]}, params())
    assert report["train_usd_per_epoch"] == report["auto"]["train_usd"] == report["break_even_calls"] == "unknown"


def test_entries_of_the_project_override_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = catalogue.look_up(MODEL, "openai")
    Path("models.toml").write_text(f'["{MODEL}".openai]\ntraining = 3.5\n', encoding="utf-8")
    own = catalogue.look_up(MODEL, "openai")
    assert (own.training, own.input, own.context) == (3.5, listed.input, listed.context)
    for text in (f'["{MODEL}"]\ncontext = "long"\n', f'["{MODEL}"]\nprice = 1\n', f'"{MODEL}" = 1\n'):
        Path("models.toml").write_text(text, encoding="utf-8")
        with pytest.raises(FinetuneError, match=r"models\.toml"):
            catalogue.look_up(MODEL, "openai")


def test_a_missing_class_gives_a_warning_and_an_undeclared_one_an_error(tmp_path: Path) -> None:
    answers = ["delivery", "billing", "配送"] * 5
    path = write(tmp_path / "a.jsonl", [example(f"q{n} {n * n}", a) for n, a in enumerate(answers)])
    train = check_file(path, labels=TEAMS)
    test = check_file(write(tmp_path / "b.jsonl", [example(f"r{n}", TEAMS[n % 2]) for n in range(10)]), training=False)
    test.findings.clear()
    check_missing_classes(test, train)
    assert [(f.code, f.line) for f in test.findings] == [("missing_class", 0)]
    assert "配送" in test.findings[0].message
    [found] = [f for f in train.findings if f.code == "unknown_label"]
    assert (found.severity, found.line) == ("error", 3)
    assert found.message == "the answer '配送' is not in data.labels: lines 3, 6, 9, 12, 15"


def test_answers_outside_the_labels_are_listed_by_answer_with_ten_lines_each(tmp_path: Path) -> None:
    answers = ["Delivery", " billing "] * 15 + ["a complaint that is no class"] + ["billing"] * 100
    path = write(tmp_path / "a.jsonl", [example(f"q{n} {n * n}", a) for n, a in enumerate(answers)])
    found = [f for f in check_file(path, labels=TEAMS).findings if f.code == "unknown_label"]
    assert [f.line for f in found] == [1, 31]
    assert found[0].message.endswith("lines 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 and 5 more")
    assert found[0].fix == "Write 'delivery'."
    assert all(f.severity == "error" for f in found)
    every = write(tmp_path / "b.jsonl", [example(f"q{n} {n * n}", f"text {n}") for n in range(150)])
    found = [f for f in check_file(every, labels=TEAMS).findings if f.code == "unknown_label"]
    assert len(found) == 101
    assert "50 more different answers" in found[-1].message
    assert not any("text" in f.message for f in found)  # answers that are no classes are not repeated


@pytest.mark.usefixtures("_prepared")
def test_validate_refuses_answers_outside_the_labels_and_takes_codes_and_the_answer_to_unanswerable_rows() -> None:
    validate.run(params())
    path = PREPARED / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows[:15]:
        row["messages"][-1]["content"] = "unknown"
    write(path, rows)
    with pytest.raises(
        FinetuneError, match=r"train\.jsonl, line 1: the answer 'unknown' is not in data\.labels: lines 1"
    ):
        validate.run(params())
    write_json(PREPARED_REPORT, {"codes": {}, "completion": None, "abstain": "unknown"})
    validate.run(params())
    write_json(PREPARED_REPORT, {"codes": {name: name for name in [*TEAMS, "unknown"]}, "completion": None})
    validate.run(params())


def test_a_class_in_another_unicode_form_is_named_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [example(f"q{n} {n * n}", "cafe\u0301") for n in range(20)])
    [found] = [f for f in check_file(path, labels=["caf\u00e9"]).findings if f.code == "unknown_label"]
    assert "another Unicode form" in found.fix


@pytest.mark.usefixtures("_prepared")
def test_classes_need_two_classes_to_learn_from() -> None:
    path = PREPARED / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["messages"][-1]["content"] = "billing"
    write(path, rows)
    settings = params()
    assert settings.evaluate.task == "classify"
    with pytest.raises(FinetuneError, match=r"train\.jsonl: all \d+ examples have the same answer") as error:
        validate.run(settings)
    assert "Add rows of other classes to the raw data" in error.value.remedy
    no_classes = settings.evaluate.model_copy(update={"task": "generate"})
    data = settings.data.model_copy(update={"labels": []})
    validate.run(settings.model_copy(update={"evaluate": no_classes, "data": data}))
    rows[0]["messages"][-1]["content"] = "delivery"
    write(path, rows)
    validate.run(settings)


@pytest.mark.usefixtures("_prepared")
def test_a_row_that_the_base_in_the_box_cannot_take_is_found_before_the_job() -> None:
    path = PREPARED / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[2]["messages"][0]["content"] += " word" * 9_000
    write(path, rows)
    with pytest.raises(FinetuneError, match=r"line 3: about 9,\d+ tokens, more than the training context of 8,192"):
        validate.run(params("local", "SmolLM2-135M-Instruct"))


@pytest.mark.parametrize("names", [("A", "a"), ("\uff21", "A"), ("a b", "a  b"), ("2", "2.0"), ("1", "01")])
def test_two_spellings_of_a_class_are_warned_of_also_where_both_are_declared(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    path = write(tmp_path / "a.jsonl", [example(f"q{n} {n * n}", names[n % 2]) for n in range(20)])
    for labels in ([], list(names)):
        found = [(f.code, f.severity) for f in check_file(path, labels=labels).findings]
        assert ("class_spelling", "warning") in found
        assert "error" not in dict(found).values()


def test_a_language_of_only_one_split_gives_a_warning(tmp_path: Path) -> None:
    english = [f"My parcel number {n} has not arrived, where is it now?" for n in range(15)]
    korean = [f"지난주에 주문한 {n}번 상품이 아직 도착하지 않았어요" for n in range(5)]
    one = check_file(write(tmp_path / "a.jsonl", [example(text, "x") for text in english + korean]))
    other = check_file(write(tmp_path / "b.jsonl", [example(text, "x") for text in english]))
    one.findings.clear()
    check_languages(one, other)
    check_languages(other, one)
    assert ["'ko'" in f.message for f in one.findings if f.code == "only_language"] == [True]
    assert [f for f in other.findings if f.code == "only_language"] == []


@pytest.mark.parametrize(
    "messages",
    [
        ["a", "b"],
        [{"content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "assistant", "content": "b"}],
        "a",
    ],
    ids=["texts", "no role", "no question", "a text"],
)
def test_a_regression_row_that_cannot_be_asked_is_an_error(messages: Any, tmp_path: Path) -> None:
    file = tmp_path / "also.jsonl"
    file.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    settings = Also(file=str(file), task="classify", margin=0.1)
    with pytest.raises(FinetuneError, match=r"evaluate\.also\.general: .*, row 1: no messages that end with an answer"):
        regression_examples("general", settings)


def test_a_missing_regression_file_is_named_with_its_key() -> None:
    settings = Also(file="data/also/none.jsonl", task="classify", margin=0.1)
    with pytest.raises(FinetuneError, match=r"evaluate\.also\.general: There is no file") as raised:
        regression_examples("general", settings)
    assert "evaluate.also.general.file" in raised.value.remedy


@pytest.mark.usefixtures("_prepared")
def test_a_stop_that_would_end_right_answers_is_refused_with_their_lines() -> None:
    ours = params()
    with_stop = [ours.model_copy(update={"evaluate": ours.evaluate.model_copy(update={"stop": [one]})}) for one in "#e"]
    validate.run(with_stop[0])
    with pytest.raises(FinetuneError, match=r"test\.jsonl, .*evaluate\.stop is in the right answer"):
        validate.run(with_stop[1])
