"""What calls cost: few-shot prompts as they are built, cached tokens, batches, fine-tuned bases, and break-even."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from finished import record, write_finished
from test_validate import MODEL, TEAMS, WORDS, example, params, write

from finetune.asking.split_answers import ask_examples
from finetune.core.break_even import break_even
from finetune.core.disk import read_json, write_json
from finetune.core.params import Params
from finetune.core.paths import PREPARED, PREPARED_REPORT
from finetune.core.records.answers import Prediction
from finetune.data.call_tokens import USUAL_SHOTS, call_tokens
from finetune.data.questions import few_shot_examples, questions_of
from finetune.data.token_counts import counter
from finetune.pricing.catalogue import CallPrices, base_name, is_fine_tuned, look_up
from finetune.pricing.cost import usd_per_1000
from finetune.provider import answer_cache
from finetune.provider.answer_parser import Answer, parse_answer
from finetune.scoring.usage import saved_by_tuning, usage
from finetune.stages import report, validate

SYSTEM = " ".join(["Answer with the team."] * 240)  # 1,200 tokens


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": SYSTEM}, *example(question, answer)["messages"]]}


def evaluating(**settings: Any) -> Params:
    """Return the parameters with other settings of `evaluate`."""
    found = params()
    return found.model_copy(update={"evaluate": found.evaluate.model_copy(update=settings)})


def write_splits(make: Any) -> None:
    write_json(PREPARED_REPORT, {"codes": {}, "completion": None})
    for split, numbers in (("train", range(60)), ("valid", range(60, 70)), ("test", range(70, 90))):
        asked = [" ".join(WORDS[(n * k + k) % len(WORDS)] + str(n * k) for k in range(1, 9)) for n in numbers]
        write(PREPARED / f"{split}.jsonl", [make(text, TEAMS[n % 2]) for n, text in enumerate(asked)])


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_splits(chat)


def test_a_system_prompt_is_in_a_few_shot_prompt_once() -> None:
    found: Any = validate.run(params())["break_even"]
    assert found["examples"] == USUAL_SHOTS
    system = counter("o200k_base")({"messages": [{"role": "system", "content": SYSTEM}]})
    assert system > 1_100
    assert found["prompt_tokens"]["tuned"] > system
    # Ten short examples: far less than ten more system prompts.
    assert found["prompt_tokens"]["few_shot"] < found["prompt_tokens"]["tuned"] + 10 * 100


def test_the_few_shot_prompt_is_counted_as_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = evaluating(few_shot=3)
    questions = questions_of(settings)
    asked: list[Any] = []

    def answer_all(connection: Any, model: str, prompts: Any, *rest: Any) -> list[Answer]:
        asked.extend(prompts)
        return [Answer("delivery")] * len(prompts)

    monkeypatch.setattr("finetune.asking.split_answers.answer_all", answer_all)
    test = [chat("where is it?", "delivery"), chat("a refund, please", "billing")]
    write(PREPARED / "test.jsonl", test)
    ask_examples(cast("Any", None), settings, questions, "base", test, questions["few_shot"])
    count = counter("o200k_base")
    sent = [count({"messages": [*prompt, {"role": "assistant", "content": ""}]}) for prompt in asked]
    found = call_tokens(questions, 2, "o200k_base")
    assert found is not None
    assert found.few_shot == sum(sent) / 2
    assert (found.examples, found.answer) == (3, 1)


def test_examples_of_prompts_and_completions_are_counted_whole() -> None:
    write_splits(lambda question, answer: {"prompt": f"{question} ->", "completion": f" {answer}"})
    found = call_tokens(questions_of(params()), 20, "o200k_base")
    assert found is not None
    assert found.examples == 10
    assert 10 * found.prompt < found.few_shot < 13 * found.prompt


@pytest.mark.slow
def test_examples_for_a_prompt_are_chosen_without_the_whole_file_in_memory() -> None:
    import tracemalloc

    write(PREPARED / "train.jsonl", [example("word " * 200 + str(n), str(n % 7)) for n in range(20_000)])
    tracemalloc.start()
    chosen = few_shot_examples(10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [one["messages"][-1]["content"] for one in chosen] == [*"0123456", *"012"]
    assert peak < 2_000_000  # the file has 20 MB


def test_cached_tokens_have_their_price_if_it_is_known() -> None:
    prices = look_up(MODEL, "openai").call_prices(tuned=True)
    assert prices == CallPrices(0.8, 3.2, 0.2)
    assert usd_per_1000(2_000, 10, prices) == pytest.approx(1.632)
    assert usd_per_1000(2_000, 10, prices, cached_tokens=1_500) == pytest.approx(0.732)
    assert usd_per_1000(2_000, 10, prices._replace(cached_input=None), 1_500) == pytest.approx(1.632)
    # A contract's price below the catalogue's price of cached tokens.
    assert usd_per_1000(2_000, 10, CallPrices(0.1, 3.2, 0.2), 1_500) == pytest.approx(0.232)
    assert usd_per_1000(2_000, 10, CallPrices(None, 3.2, 0.2), 2_000) == "unknown"
    assert look_up(MODEL, "openai").call_prices(tuned=False).cached_input == 0.1


def rows(prompt: int, cached: int = 0, count: int = 4) -> list[Prediction]:
    row: Prediction = {"asked": "", "expected": "", "answer": "", "prompt_tokens": prompt, "completion_tokens": 10}
    return [{**row, "cached_tokens": cached} if cached else row] * count


def test_the_usage_tells_cached_tokens_and_their_price() -> None:
    found = usage(params(), [*rows(2_000, 1_500, 3), *rows(2_000, 0, 1)], tuned=True)
    assert found["cached_tokens"] == 1_125
    assert found["usd_per_1000"] == pytest.approx((875 * 0.8 + 1_125 * 0.2 + 10 * 3.2) / 1_000)
    assert "cached_tokens" not in usage(params(), rows(2_000), tuned=True)


def test_the_price_of_a_batch_is_marked_as_such() -> None:
    single = usage(params(), rows(2_000), tuned=True)
    settings = evaluating(batch=True)
    batch = usage(settings, rows(2_000, 1_500), tuned=True)
    assert "usd_per_1000_batch" not in single
    assert batch["usd_per_1000_batch"] == single["usd_per_1000"] / 2  # without a discount for cached tokens
    assert usage(settings, rows(2_000), tuned=False)["usd_per_1000_batch"] == pytest.approx(0.408)
    assert usage(settings, rows(2_000), tuned=True, base="unknown/model")["usd_per_1000_batch"] == "unknown"


TUNED_BASES = (
    f"ft:{MODEL}:org::abc",
    f"ft:{MODEL}:org:x:abc:ckpt-step-5",
    f"{MODEL}.ft-0e208cf33a6a466994aff31a08aba678",
)


@pytest.mark.parametrize("base", TUNED_BASES)
def test_a_fine_tuned_base_has_the_prices_of_fine_tuned_models(base: str) -> None:
    assert base_name(base) == MODEL
    assert is_fine_tuned(base)
    assert not is_fine_tuned(MODEL)
    settings = params(base=base)
    assert usage(settings, rows(100), tuned=False) == usage(settings, rows(100), tuned=True)
    assert usage(params(), rows(100), tuned=False)["usd_per_1000"] < usage(settings, rows(100), False)["usd_per_1000"]
    cost = validate.run(settings)
    assert cost["evaluate_usd_at_most"]["base"] == cost["evaluate_usd_at_most"]["tuned"]
    assert cost["planned"]["train_usd"] == validate.run(params())["planned"]["train_usd"]


def test_a_compared_model_has_the_price_of_its_own_base() -> None:
    other = usage(params(), rows(100), tuned=True, base="gpt-4o-2024-08-06")
    assert other["usd_per_1000"] == pytest.approx((100 * 3.75 + 10 * 15) / 1_000)


def test_the_few_shot_model_is_part_of_the_cost_of_evaluating() -> None:
    assert "few_shot" not in validate.run(params())["evaluate_usd_at_most"]
    found: Any = validate.run(evaluating(few_shot=5))["evaluate_usd_at_most"]
    assert found["base"] < found["few_shot"]


def test_break_even_is_counted_in_calls() -> None:
    assert break_even(1.0, 0.5, 0.25) == 4_000
    assert break_even(1.0, 0.25, 0.25) is None
    assert break_even("unknown", 0.5, 0.25) == break_even(1.0, 0.5, "unknown") == "unknown"


def test_tuning_saves_dollars_against_the_measured_few_shot_prompt() -> None:
    few_shot = usage(params(), rows(1_000), tuned=False)
    tuned = usage(params(), rows(60), tuned=True)
    saved = saved_by_tuning({"few_shot": few_shot, "tuned": tuned})
    assert saved["saved_prompt_tokens"] == 940
    assert saved["saved_usd_per_1000"] == pytest.approx((1_000 * 0.4 + 10 * 1.6 - 60 * 0.8 - 10 * 3.2) / 1_000)
    unpriced = {"few_shot": {**few_shot, "usd_per_1000": "unknown"}, "tuned": tuned}
    assert set(saved_by_tuning(unpriced)) == {"saved_prompt_tokens"}
    assert saved_by_tuning({"tuned": tuned}) == {}


def reported(change: Any) -> str:
    """Return the Markdown of a finished project after a change of its record, evaluation and validation report."""
    write_finished(Path())
    files = {name: Path(name) for name in ("models/model.json", "reports/evaluation.json", "reports/validation.json")}
    contents = [read_json(path, "") for path in files.values()]
    change(*contents)
    for path, content in zip(files.values(), contents, strict=True):
        write_json(path, content)
    report.run()
    return Path("reports/report.md").read_text(encoding="utf-8")


def test_the_report_breaks_even_by_the_bill_and_the_measured_prompts() -> None:
    """The bill is that of the epochs that were taken: 3 dollars, whatever was planned."""

    def measured(record: Any, evaluation: Any, validation: Any) -> None:
        record["usd"] = 3.0
        evaluation["few_shot"]["usd_per_1000"], evaluation["tuned"]["usd_per_1000"] = 0.4, 0.1

    text = reported(measured)
    assert (
        "- break-even: after about 10,000 calls, compared with the base model with evaluate.few_shot examples" in text
    )
    assert "1,000 calls cost $0.10 instead of $0.40" in text

    def dearer(record: Any, evaluation: Any, validation: Any) -> None:
        evaluation["few_shot"]["usd_per_1000"] = 0.01

    assert "- break-even: never, compared with" in reported(dearer)


def test_without_few_shot_the_report_breaks_even_by_the_bill_and_the_counted_prompts() -> None:
    def estimated(record: Any, evaluation: Any, validation: Any) -> None:
        del evaluation["few_shot"], evaluation["lift_over_few_shot"]
        record["usd"] = 3.0
        prices = {"few_shot": 0.4, "tuned": 0.1}
        validation["break_even"] = {"examples": 10, "prompt_tokens": {}, "usd_per_1000": prices}
        validation["break_even_calls"] = 1  # of the planned epochs

    text = reported(estimated)
    assert "after about 10,000 calls, compared with the base model with 10 examples in its prompt, as estimated" in text

    def free(record: Any, evaluation: Any, validation: Any) -> None:
        record["usd"] = 0.0

    assert "break-even" not in reported(free)


def test_the_price_of_a_deployment_is_told_beside_the_break_even() -> None:
    def at_azure(record: Any, evaluation: Any, validation: Any) -> None:
        record["provider"] = "azure"

    assert "- deployment, not counted here: about $1.70 an hour" in reported(at_azure)
    assert record()["provider"] == "openai"
    assert "deployment" not in reported(lambda *_: None)


def test_cached_tokens_are_read_from_the_usage_and_kept(tmp_path: Path) -> None:
    def body(details: Any) -> dict[str, Any]:
        choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 2_000, "completion_tokens": 1, "prompt_tokens_details": details}
        return {"choices": [choice], "usage": usage}

    found = parse_answer(body({"cached_tokens": 1_536}), None)
    assert found.cached_tokens == 1_536
    assert parse_answer(body(None), None).cached_tokens is None
    cache = answer_cache.AnswerCache(tmp_path / "answers.db")
    cache.put("a", found, "compatible", "m")
    assert cache.get("a") == found
    # What an earlier version kept has no such row.
    cache.db.execute("DELETE FROM cached")
    known = cache.get("a")
    assert known is not None
    assert known.cached_tokens is None
    cache.db.close()


def test_the_ledger_compares_the_tokens_of_the_epochs_that_ran() -> None:
    """At `auto`, the provider took 5 epochs of 100,000 tokens where 2 were estimated: the count was right."""
    from finetune.project import budget, ledger

    write_json(Path("reports/validation.json"), {"train_tokens_per_epoch": 100_000, "auto": {"n_epochs": 2}})
    ours = params()
    job: Any = SimpleNamespace(id="ftjob-1", trained_tokens=500_000, created_at=0, finished_at=600)
    row = budget.ledger_row(ours, job, 2.5, n_epochs=5)
    assert (row["n_epochs"], row["counted_tokens"], row["estimated_usd"]) == (5, 500_000, 2.5)
    ledger.add_job(row)
    assert budget.estimated(ours)["billed_tokens"] == 200_000  # not 500,000


def test_jobs_of_other_branches_count_for_the_limit_of_all_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from finetune.project import ledger

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], check=True, capture_output=True
        )

    git("init", "-q")

    def add(job: str) -> None:
        row: Any = {**dict.fromkeys(ledger.COLUMNS, "1"), "job": job}
        ledger.add_job(row)

    add("main")
    git("add", "reports/ledger.csv")
    git("commit", "-qm", "main")
    git("checkout", "-qb", "experiment")
    add("experiment")
    git("commit", "-qam", "experiment")
    git("checkout", "-q", "-")
    add("new")
    assert [row["job"] for row in ledger.rows()] == ["main", "new"]
    assert sorted(row["job"] for row in ledger.rows_of_all_commits()) == ["experiment", "main", "new"]
