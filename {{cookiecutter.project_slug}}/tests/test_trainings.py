"""The spread between trainings with different seeds, in the evaluation and in words; and the price that is named."""

import subprocess
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import typer
from finished import write_finished

from finetune.asking.variant_costs import Bill, refuse_deployments
from finetune.commands import variants as commands
from finetune.core.disk import read_json, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import EVALUATION, VALIDATION_REPORT, VARIANTS
from finetune.core.read_records import read_variants
from finetune.core.records.prepared import PrepareReport
from finetune.core.records.variants import VariantRecord
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.train import Budget
from finetune.project import budget
from finetune.project.cleanup import needed
from finetune.project.variants import path_of, write_variant
from finetune.scoring.trainings import scoring_settings, spread, trainings_of
from finetune.stages import report

PREPARED_DATA = cast("PrepareReport", {"labels": ["a", "b"], "codes": {}, "abstain": None, "completion": None})


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(**evaluate: Any) -> Params:
    settings = Evaluate.model_validate({"max_tokens": 6, "temperature": 0.0, "concurrency": 1} | evaluate)
    provider = SimpleNamespace(name="openai", base_url=None)
    data, train = SimpleNamespace(labels="auto"), SimpleNamespace(choose="last")
    return cast("Params", SimpleNamespace(evaluate=settings, provider=provider, data=data, train=train))


def record(seed: int, score: float, settings: str = "s", **more: Any) -> VariantRecord:
    scores = {"score": score, "settings": settings, "metric": "accuracy"}
    found = {"seed": seed, "share": 1.0, "recipe": "r", "fingerprint": f"f{seed}", "rows": 9, "scores": scores}
    rest = {"provider": "local", "base": "b", "files": {}, "job": f"j{seed}"}
    return cast("VariantRecord", found | rest | more)


def metrics(tuned: float, base: float = 0.1, rival: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"metric": "accuracy", "tuned": {"accuracy": tuned}, "lift": {"accuracy": tuned - base}}
    if rival is not None:
        found["rival"] = {"name": "floors.tfidf", "accuracy": tuned - rival}
    return found | {"evaluated": {"fingerprint": "f42", "test_rows": "t"}}


@pytest.mark.parametrize("content", ["", "{}", "null", "[1]", '{"fingerprint": "f"}', "<<<<<<< HEAD"])
def test_a_damaged_record_of_a_training_is_named(content: str) -> None:
    VARIANTS.mkdir(parents=True)
    (VARIANTS / "seed8.json").write_text(content, encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"seed8\.json") as error:
        read_variants()
    assert ("--theirs" if content.startswith("<") else "delete it") in error.value.remedy


def test_the_spread_is_told_beside_the_lift() -> None:
    found = spread([record(43, 0.84), record(44, 0.86)], 42, metrics(0.88, rival=0.85))
    assert (found["n"], found["seeds"], found["mean"], found["rank"]) == (3, [42, 43, 44], 0.86, 1)
    assert (found["least"], found["most"], found["sd"]) == (0.84, 0.88, 0.02)
    assert (found["sd_low"], found["sd_high"]) == (0.0104, 0.1257)
    assert found["share_of_lift"] == pytest.approx(0.02 / 0.78, abs=1e-4)
    assert found["share_of_rival_lift"] == pytest.approx(0.02 / 0.03, abs=1e-4)
    assert found["above_rival"] == 2
    assert found["verdict"] == (
        "3 trainings with the seeds 42, 43, 44: accuracy 0.860 on average, 0.840 to 0.880, standard deviation 0.020"
        " (95 % interval 0.010 to 0.126), which is 3% of the lift over base and 67% of the difference to TF-IDF with"
        " logistic regression; 2 of 3 trainings score above TF-IDF with logistic regression; the evaluated model is the"
        " best of them, so expect less of another training"
    )


def test_equal_trainings_and_no_lift_have_words() -> None:
    found = spread([record(43, 0.5)], 42, metrics(0.5, base=0.5))
    assert (found["sd"], found["sd_high"], found["share_of_lift"]) == (0.0, None, None)
    assert found["verdict"] == "2 trainings with the seeds 42, 43: accuracy 0.500 on average, the same in each"


def test_the_interval_of_the_standard_deviation_covers_it() -> None:
    draw = np.random.default_rng(2)
    inside = 0
    for _ in range(1000):
        own, *others = (0.8 + 0.02 * draw.standard_normal(3)).tolist()
        found = spread([record(43 + n, score) for n, score in enumerate(others)], 42, metrics(own))
        inside += found["sd_low"] <= 0.02 <= (found["sd_high"] or 1)
    assert 0.93 <= inside / 1000 <= 0.97


def test_only_trainings_of_the_same_recipe_rows_and_settings_are_compared() -> None:
    settings = scoring_settings(params(), PREPARED_DATA, "t")
    assert settings != scoring_settings(params(max_tokens=7), PREPARED_DATA, "t")
    assert settings != scoring_settings(params(), PREPARED_DATA, "u")
    found: list[str] = []

    def trainings() -> dict[str, Any]:
        return trainings_of(params(), PREPARED_DATA, metrics(0.88), found.append)

    assert trainings() == {}
    former = {key: value for key, value in metrics(0.88).items() if key != "evaluated"}
    assert trainings_of(params(), PREPARED_DATA, former, found.append) == {}
    for name, one in {
        "own": record(42, 0.88, settings),
        "other": record(43, 0.84, settings),
        "part": record(44, 0.2, settings, share=0.5),
        "former data": record(45, 0.2, settings, recipe="q"),
    }.items():
        write_json(VARIANTS / f"{name}.json", one)
    assert trainings()["trainings"]["seeds"] == [42, 43]
    assert found == []
    write_json(VARIANTS / "stale.json", record(46, 0.3, "other settings"))
    assert trainings()["trainings"]["seeds"] == [42, 43]
    assert "seeds 46, whose answers are missing" in found[0]
    assert found[0].endswith("finetune repeat --seeds 46")


def test_the_report_tells_the_spread(tmp_path: Any) -> None:
    write_finished(tmp_path)
    words = "3 trainings with the seeds 42, 43, 44: accuracy 0.860 on average"
    evaluation = read_json(EVALUATION, "")
    write_json(EVALUATION, evaluation | {"trainings": {"n": 3, "verdict": words}})
    report.run()
    assert words in report.PAGE.read_text(encoding="utf-8")
    assert words in report.MARKDOWN.read_text(encoding="utf-8").replace("\\", "")


def test_what_a_record_names_is_kept_at_the_provider_also_after_it_is_deleted(tmp_path: Any) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    files = {"train": {"id": "file-part", "sha256": "x"}}
    of_job: VariantRecord = {**record(43, 0.0, rows=79, fingerprint="f" * 64, files=files)}
    del of_job["scores"]
    git("init", "-q")
    write_variant(of_job)  # the job runs
    assert "f" * 64 in needed().fingerprints
    git("add", ".")
    git("commit", "-qm", "one")
    write_variant({**of_job, "model": "m", "checkpoints": ["m-1", "m"]})
    assert path_of(of_job).name == "seed43-rows79-ffffffffffff.json"
    git("commit", "-qam", "two")
    path_of(of_job).unlink()
    git("commit", "-qam", "three")
    kept = needed()
    assert (kept.models, kept.files, kept.fingerprints) == ({"m-1", "m"}, {"file-part"}, {"f" * 64})


# What it costs


def test_models_that_must_be_deployed_are_refused_before_anything_is_sent() -> None:
    project = cast("Params", SimpleNamespace(provider=SimpleNamespace(name="azure")))
    with pytest.raises(FinetuneError, match="each of 3 models would have to be deployed"):
        refuse_deployments(project, 3)


def priced(**limits: float) -> Params:
    train = SimpleNamespace(base="gpt-4.1-mini-2025-04-14", n_epochs="auto", budget=Budget(**limits), seed=42)
    return cast("Params", SimpleNamespace(provider=SimpleNamespace(name="openai"), train=train))


def test_a_part_of_the_rows_is_priced_by_its_tokens_and_its_own_epochs() -> None:
    write_json(VALIDATION_REPORT, {"train_tokens_per_epoch": 100_000, "auto": {"n_epochs": 2}})
    part = budget.Part(rows=20, tokens=0.1)
    bill = budget.estimated(priced(), part)
    assert (bill["n_epochs"], bill["billed_tokens"], bill["train_usd"]) == (5, 50_000, 0.25)
    budget.refuse_over_total(priced(total_usd=1.3), [budget.WHOLE, part])
    with pytest.raises(FinetuneError, match=r"these 2 would cost \$1\.25"):
        budget.refuse_over_total(priced(total_usd=1.2), [budget.WHOLE, part])
    assert budget.total_usd([1.0, "unknown"]) == "unknown"


@pytest.mark.parametrize(("provider", "yes", "asks"), [("openai", False, 1), ("openai", True, 0), ("local", False, 0)])
def test_the_price_is_named_and_at_a_provider_asked_for(
    provider: str, yes: bool, asks: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    questions: list[Any] = []
    monkeypatch.setattr(typer, "confirm", lambda *words, **settings: questions.append((words, settings)))
    train = SimpleNamespace(base="some-base")
    project = cast("Params", SimpleNamespace(provider=SimpleNamespace(name=provider), train=train))
    confirm = commands.confirmation(project, yes, "learning-curve")
    confirm(Bill(trainings=3, found=1, tokens=240_000, train_usd=1.2, seconds=630, asked=4, ask_usd=0.3))
    said = capsys.readouterr().err
    assert f"3 trainings on some-base at {provider}: 240,000 tokens, $1.20, about 10 min." in said
    assert "1 training exists already and is not paid again" in said
    assert "4 models answer the test rows: at most $0.30" in said
    assert len(questions) == asks
    confirm(Bill(trainings=1, found=0, tokens=1, train_usd="unknown", seconds="unknown", asked=1, ask_usd="unknown"))
    assert "1 tokens, price unknown." in capsys.readouterr().err


def test_seeds_are_whole_numbers() -> None:
    assert commands.seeds_of("42, 43,42", [1]) == [42, 43]
    assert commands.seeds_of(None, [1, 2]) == [1, 2]
    for text in ("", "a", "-1", "1.5", "3000000000"):
        with pytest.raises(typer.BadParameter):
            commands.seeds_of(text, [1])
