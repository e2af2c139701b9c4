"""The ledger: each job once, the correction of the next estimate, and the limit for all jobs of a project."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import LEDGER, VALIDATION_REPORT
from finetune.core.read_records import parse_ledger, read_ledger
from finetune.core.sections.train import Budget
from finetune.project import budget, ledger

MODEL = "gpt-4.1-mini-2025-04-14"  # five dollars per million training tokens


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(VALIDATION_REPORT, {"train_tokens_per_epoch": 100_000, "auto": {"n_epochs": 2}})


def params(base: str = MODEL, **limits: float) -> Params:
    train = SimpleNamespace(base=base, method="supervised", n_epochs="auto", budget=Budget(**limits))
    return cast("Params", SimpleNamespace(provider=SimpleNamespace(name="openai"), train=train))


def job(name: str, tokens: int | None, seconds: int) -> Any:
    return SimpleNamespace(id=name, trained_tokens=tokens, created_at=1000, finished_at=1000 + seconds)


def test_a_job_is_entered_once_and_corrects_the_next_estimate() -> None:
    assert budget.estimated(params())["billed_tokens"] == 200_000
    ours = params()
    row = budget.ledger_row(ours, job("ftjob-1", 220_000, 660), 1.1)
    assert (row["counted_tokens"], row["billed_tokens"], row["estimated_usd"]) == (200_000, 220_000, 1.0)
    ledger.add_job(row)
    before = LEDGER.read_bytes()
    ledger.add_job({**row, "billed_usd": 99})
    assert LEDGER.read_bytes() == before
    corrected = budget.estimated(ours)
    assert corrected["billed_tokens"] == 220_000
    assert corrected["train_usd"] == 1.1
    assert corrected["seconds"] == 660
    # The correction is computed from the counted tokens, so a right correction stays.
    ledger.add_job(budget.ledger_row(ours, job("ftjob-2", 220_000, 660), 1.1))
    assert budget.estimated(ours)["billed_tokens"] == 220_000
    assert budget.estimated(params("gpt-4o-mini-2024-07-18"))["billed_tokens"] == 200_000


def test_the_limit_for_all_jobs_is_checked() -> None:
    budget.refuse_over_total(params(total_usd=1.0))
    ledger.add_job(budget.ledger_row(params(), job("ftjob-1", 200_000, 60), 1.0))
    budget.refuse_over_total(params(total_usd=2.0))
    with pytest.raises(FinetuneError, match=r"spent \$1 on 1 job .* this one would cost \$1; .*total_usd is 1\.9"):
        budget.refuse_over_total(params(total_usd=1.9))
    ledger.add_job(budget.ledger_row(params(), job("ftjob-2", None, 60), "unknown"))
    # A job without a bill counts by its estimate; where that is not known either, nobody can say what is left.
    budget.refuse_over_total(params(total_usd=3.0))
    with pytest.raises(FinetuneError, match=r"spent \$2 on 2 jobs"):
        budget.refuse_over_total(params(total_usd=2.9))
    ledger.add_job(budget.ledger_row(params("nobody/knows"), job("ftjob-3", None, 60), "unknown"))
    with pytest.raises(FinetuneError, match="unknown"):
        budget.refuse_over_total(params(total_usd=100))


def test_the_ledger_of_a_new_project_has_todays_columns() -> None:
    """The report depends on the ledger, which exists before the first job."""
    text = (Path(__file__).parents[1] / LEDGER).read_text(encoding="utf-8")
    assert text.splitlines()[0].split(",") == ledger.COLUMNS


DAMAGED = {
    "a line that was cut": (b"job,provider,base", b"ftjob-1,openai", r"line 3: 2 cells"),
    "a lost column": (b"billed_usd,", b"", r"line 1 lacks the columns billed_usd"),
    "other bytes": (b"openai", b"\xff\xfe", r"line 2 is not in UTF-8"),
    "a text for a number": (b"200000", b"many", r"job 1: counted_tokens is not a number"),
    "no number": (b",1.0,", b",nan,", r"job 1: \w+ is not a number"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_ledger_is_named_with_its_line(kind: str) -> None:
    ledger.add_job(budget.ledger_row(params(), job("ftjob-1", 200_000, 60), 1.0))
    old, new, words = DAMAGED[kind]
    content = LEDGER.read_bytes()
    LEDGER.write_bytes(content + new if kind == "a line that was cut" else content.replace(old, new, 1))
    with pytest.raises(FinetuneError, match=rf"reports/ledger\.csv.*{words}.*\n.*git checkout reports/ledger\.csv"):
        read_ledger()


def test_a_conflict_in_the_ledger_is_named() -> None:
    ledger.add_job(budget.ledger_row(params(), job("ftjob-1", 200_000, 60), 1.0))
    head, row = LEDGER.read_text(encoding="utf-8").splitlines()
    text = "\n".join([head, "<<<<<<< HEAD", row, "=======", row.replace("ftjob-1", "ftjob-2"), ">>>>>>> other", ""])
    LEDGER.write_text(text, encoding="utf-8")
    # One side alone would lack a job that was paid.
    with pytest.raises(FinetuneError, match=r"line 2: a conflict of a merge is not resolved.*\n.*lines of both sides"):
        read_ledger()
    LEDGER.write_text(f"<<<<<<< HEAD\n{text}", encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"line 1 lacks the columns.*\n.*lines of both sides"):
        read_ledger()
    # A commit that had the conflict still counts its jobs.
    assert [one["job"] for one in parse_ledger(text)] == ["ftjob-1", "ftjob-2"]
    assert parse_ledger("") == []


@pytest.mark.parametrize("ledger_before", [True, False])
def test_a_merge_keeps_the_jobs_of_both_sides(ledger_before: bool) -> None:
    """Each branch adds one job that only it has, and one that both have. `ledger_before`: before the branches."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    def commit(*jobs: str) -> None:
        for name in jobs:
            ledger.add_job(budget.ledger_row(params(), job(name, 200_000, 60), 1.0))
        git("add", ".")
        git("commit", "-qm", "Jobs")

    git("init", "-q", "-b", "main")
    shutil.copy(Path(__file__).parents[1] / ".gitattributes", ".gitattributes")
    commit(*["ftjob-0"] * ledger_before)
    git("switch", "-qc", "other")
    commit("ftjob-2", "ftjob-both")
    git("switch", "-q", "main")
    commit("ftjob-1", "ftjob-both")
    git("merge", "-q", "other")
    wanted = ["ftjob-0"] * ledger_before + ["ftjob-1", "ftjob-2", "ftjob-both"]
    assert sorted(row["job"] for row in read_ledger()) == wanted


def test_a_line_that_is_twice_in_the_ledger_counts_once() -> None:
    ledger.add_job(budget.ledger_row(params(), job("ftjob-1", 200_000, 60), 1.0))
    LEDGER.write_text(LEDGER.read_text(encoding="utf-8") * 2, encoding="utf-8")
    assert [row["job"] for row in read_ledger()] == ["ftjob-1"]
