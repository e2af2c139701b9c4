"""Two machines that create the same job while the provider's list lags behind: one of the jobs is cancelled."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openai.types.fine_tuning import FineTuningJob

from finetune.core.profiles import PROFILES
from finetune.provider import follow_job
from finetune.provider.create_once import LIST_LAG
from finetune.provider.find_jobs import FINGERPRINT
from finetune.provider.request_notes import read_request_note, write_request_note
from finetune.provider.twin_jobs import keep_oldest, late_twins

START = 1_700_000_000
TAKES = 3 * 3600  # seconds of a training


class Account:
    """A provider whose list shows a job `lag` seconds after its creation. Its clock moves by the pauses only."""

    def __init__(self, lag: float) -> None:
        self.lag, self.seconds, self.lists = lag, float(START), 0
        self.jobs: list[FineTuningJob] = []
        self.fine_tuning = SimpleNamespace(jobs=self)
        self.clock = SimpleNamespace(now=lambda: self.seconds)

    def connection(self, identity: str = "openai") -> Any:
        return SimpleNamespace(
            identity=identity, clock=self.clock, control=self, profile=PROFILES["openai"], client=SimpleNamespace()
        )

    def add(self, name: str, age: int, **more: Any) -> FineTuningJob:
        fields = {"id": name, "status": "running", "created_at": START - age, "metadata": {FINGERPRINT: "f"}, **more}
        job = FineTuningJob.construct(**cast("Any", fields))
        self.jobs.append(job)
        return job

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def list(self, **_: Any) -> Any:
        self.lists += 1
        shown = [job for job in self.jobs if self.seconds - (job.created_at or 0) >= self.lag]
        page = SimpleNamespace(data=shown, has_next_page=lambda: False)
        return SimpleNamespace(iter_pages=lambda: iter([page]))

    def retrieve(self, name: str) -> FineTuningJob:
        job = next(job for job in self.jobs if job.id == name)
        if job.status == "running" and self.seconds - job.created_at >= TAKES:
            job.status, job.fine_tuned_model = "succeeded", f"ft:{name}"
        return job

    def cancel(self, name: str) -> FineTuningJob:
        job = self.retrieve(name)
        job.status = "cancelled"
        return job

    def list_events(self, name: str, limit: int) -> Any:
        return SimpleNamespace(data=[])


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(follow_job, "wait_for_model", lambda connection, job, *_: job)


def follow(account: Account, job: FineTuningJob, said: list[str]) -> FineTuningJob:
    """Follow a job as the machine does that has created it, with its own note."""
    connection = account.connection(f"openai, the machine of {job.id}")
    facts = {"fingerprint": "f", "usd": 1.0}
    write_request_note(connection.identity, "f", {"asked_at": START, "known": [], "facts": facts, "id": job.id})
    twin = late_twins(connection, "f", said.append)
    clock = lambda: account.seconds  # noqa: E731
    return follow_job.follow(connection, job, lambda *_: None, said.append, twin, account.sleep, clock)


@pytest.mark.parametrize("lag", [20, 200, 600, 3600])
def test_the_younger_job_is_cancelled_as_soon_as_the_list_shows_the_older_one(lag: int) -> None:
    """The list is asked at each look in the first minutes only."""
    account, said = Account(lag), list[str]()
    older, younger = account.add("ftjob-a", 9), account.add("ftjob-b", 0)
    assert follow(account, younger, said).id == older.id
    assert younger.status == "cancelled"
    assert any("ftjob-a" in words and "ftjob-b is cancelled" in words for words in said)
    note = read_request_note("openai, the machine of ftjob-b", "f")
    assert note is not None
    assert (note.get("id"), note["facts"]["unbilled"]) == ("ftjob-a", ["ftjob-b"])
    looks = LIST_LAG / PROFILES["openai"].poll_seconds[0] + TAKES / LIST_LAG
    assert account.lists < looks + 10


def test_the_older_job_goes_on() -> None:
    account, said = Account(600), list[str]()
    older, younger = account.add("ftjob-a", 9), account.add("ftjob-b", 0)
    assert follow(account, older, said).id == "ftjob-a"
    assert older.status == "succeeded"
    assert younger.status != "cancelled"
    assert not any("machine" in words for words in said)


def test_jobs_that_one_was_asked_for_in_place_of_are_no_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    """They had ended before: a failed one, one whose model is gone, and one of a server that says no times."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    account, said = Account(0), list[str]()
    account.add("ftjob-1", 9000, status="failed", finished_at=START - 8000)
    account.add("ftjob-2", 7000, status="succeeded", finished_at=START - 10)
    account.add("ftjob-3", 7000, status="succeeded", finished_at=None)
    account.add("ftjob-4", 0).created_at = cast("Any", None)
    job = account.add("ftjob-5", 0)
    assert keep_oldest(account.connection(), "f", job, said.append) is job
    assert said == []
    twin = account.add("ftjob-6", 900, status="succeeded", finished_at=START + 1)
    assert keep_oldest(account.connection(), "f", job, said.append) is twin
    assert job.status == "cancelled"
