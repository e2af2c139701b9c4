"""What a project has spent: its own jobs, each once, whatever other projects and later requests have done with them."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetune.core.disk import write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import LEDGER, VALIDATION_REPORT
from finetune.core.sections.train import Budget
from finetune.project import budget
from finetune.project.health import check_history
from finetune.project.history import project_id
from finetune.project.spending import forget_unclear_requests, is_ours, spent_by_job
from finetune.provider.connect import Connection
from finetune.provider.find_jobs import PROJECT
from finetune.provider.request_notes import note_path, read_request_note, write_request_note

HERE, THERE = "openai https://api.openai.com/v1", "none /elsewhere"
PARAMS: Any = SimpleNamespace(
    provider=SimpleNamespace(name="openai"),
    train=SimpleNamespace(
        base="gpt-4.1-mini-2025-04-14", method="supervised", n_epochs=1, budget=Budget(total_usd=1.0)
    ),
)


@pytest.fixture(autouse=True)
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Be in a project without a commit, and return its name in notes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    write_json(VALIDATION_REPORT, {"train_tokens_per_epoch": 100_000, "auto": {"n_epochs": 1}})
    git("init", "-q")
    return f"none {tmp_path}"


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)


def facts(project: str, usd: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"project": project, "provider": "openai", "fingerprint": "f", "usd": usd, **more}


def note(key: str, project: str, made: str | None, earlier: Any = (), **more: Any) -> None:
    found: Any = {"asked_at": 0, "known": [], "facts": facts(project, **more), "earlier": list(earlier)}
    write_request_note(HERE, key, found | ({"id": made} if made else {}))


def connection() -> Connection:
    profile, clock = SimpleNamespace(metadata=False), SimpleNamespace(now=lambda: 1000.0)
    return cast("Connection", SimpleNamespace(identity=HERE, profile=profile, clock=clock))


def job(name: str, **metadata: str) -> Any:
    return SimpleNamespace(id=name, metadata=metadata, trained_tokens=200_000, created_at=1000, finished_at=1060)


def test_a_job_is_of_the_project_that_created_it(ours: str) -> None:
    note("a", ours, "ftjob-1")
    note("b", THERE, "ftjob-2")
    note("c", ours, "ftjob-4", earlier=[{"id": "ftjob-3", "facts": facts(THERE)}])
    found = {name: is_ours(connection(), job(f"ftjob-{name}"), key) for name, key in zip("1234", "abcc", strict=True)}
    assert found == {"1": True, "2": False, "3": False, "4": True}
    assert is_ours(connection(), job("ftjob-5"), "a")  # nobody knows: it counts
    git("commit", "-qm", "first", "--allow-empty")
    assert is_ours(connection(), job("ftjob-2", **{PROJECT: project_id()}), "b")
    assert not is_ours(connection(), job("ftjob-1", **{PROJECT: "0" * 40}), "a")


def test_a_shallow_clone_does_not_know_what_is_its_own(ours: str, tmp_path: Path) -> None:
    """Its oldest commit is not the first one, so it would count as another project, with another budget."""
    for words in ("first", "second"):
        git("commit", "-qm", words, "--allow-empty")
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{tmp_path}", "shallow"], check=True)
    os.chdir("shallow")
    with pytest.raises(FinetuneError, match="git fetch --unshallow"):
        spent_by_job(None, "openai")
    assert check_history().state == "wrong"
    git("fetch", "-q", "--unshallow")
    assert spent_by_job(None, "openai") == {}
    assert check_history().state == "ok"


def test_an_adopted_job_is_not_in_the_ledger_and_takes_nothing_of_the_budget(ours: str) -> None:
    note("a", THERE, "ftjob-1")
    budget.enter_bill(connection(), PARAMS, job("ftjob-1"), "a", 1.5)
    assert not LEDGER.exists()
    assert spent_by_job(None, "openai") == {}
    found = read_request_note(HERE, "a")
    assert found
    assert found["facts"]["usd"] == 1.5  # the other project counts the bill
    note("b", ours, "ftjob-2")
    budget.enter_bill(connection(), PARAMS, job("ftjob-2"), "b", 0.75)
    assert "ftjob-2" in LEDGER.read_text(encoding="utf-8")
    assert spent_by_job(None, "openai") == {"ftjob-2": 0.75}


def test_each_project_counts_its_own_of_the_requests_in_one_note(ours: str) -> None:
    """Another project's job of the same data failed, and ours is a new one; and the other way round."""
    note("a", ours, "ftjob-2", earlier=[{"id": "ftjob-1", "facts": facts(THERE)}])
    note("b", THERE, "ftjob-4", earlier=[{"id": "ftjob-3", "facts": facts(ours, 0.25)}])
    assert spent_by_job(None, "openai") == {"ftjob-2": 1.0, "ftjob-3": 0.25}


def test_a_cancelled_twin_stays_unbilled_after_a_later_request(ours: str) -> None:
    note("a", ours, "ftjob-3", earlier=[{"id": "ftjob-1", "facts": facts(ours, unbilled=["ftjob-2"])}])
    note("b", ours, "ftjob-2")
    assert spent_by_job(None, "openai") == {"ftjob-1": 1.0, "ftjob-3": 1.0}


def test_an_unclear_request_counts_until_it_is_forgotten(ours: str) -> None:
    """The jobs before it in the same note still count: a failed job may have cost something."""
    note("a", ours, None, earlier=[{"id": "ftjob-1", "facts": facts(ours, 0.25)}])
    note("b", THERE, None)
    assert spent_by_job(None, "openai") == {"ftjob-1": 0.25, "request f": 1.0}
    with pytest.raises(FinetuneError, match=r"1 of them is a request without a clear .*finetune train --forget"):
        budget.refuse_over_total(PARAMS)
    forget_unclear_requests()
    assert spent_by_job(None, "openai") == {"ftjob-1": 0.25}
    budget.refuse_over_total(PARAMS)
    assert "id" not in (read_request_note(HERE, "b") or {"id": ""})  # another project's request


def test_notes_that_cannot_be_read_hide_no_other_ones(ours: str) -> None:
    note("a", ours, "ftjob-1")
    for number, content in enumerate(
        ("", "{", "[]", '{"asked_at": 1, "facts": []}', '{"asked_at": 1, "earlier": [1]}')
    ):
        note_path(HERE, f"damaged {number}").write_text(content, encoding="utf-8")
    os.mkfifo(note_path(HERE, "a pipe"))
    assert spent_by_job(None, "openai") == {"ftjob-1": 1.0}
