"""Random schedules of faults, kills and clocks: whatever happens, nothing is paid twice and no budget exceeded.

`make soak` runs a thousand. SOAK_SCHEDULES, SOAK_SEED and SOAK_SECONDS say how many, which, and for how long.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import FAULTS, HABITS, STEPS, Plan, Server, kill_after, kill_before
from faulty_engine import KEY, faulty_engine
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from small_projects import HERE, make_project, rows
from warm_stages import Child

SCHEDULES = int(os.environ.get("SOAK_SCHEDULES", "12"))
SEED = int(os.environ.get("SOAK_SEED", "16"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
JOBS = 2  # that the budget allows
PRICE = 4000.0  # dollars per million tokens, so that a job on 100 tokens costs 0.4
SOME_FAULT = st.sampled_from([None, *FAULTS, "kill-before", "kill-after"])
KILLS = {"kill-before": kill_before, "kill-after": kill_after}


def printed_at_once(step: Callable[..., None]) -> Callable[..., None]:
    """Print what fails as it happens: with other timing, the repetition by hypothesis may pass, and tells nothing."""

    @functools.wraps(step)
    def run(*arguments: Any, **settings: Any) -> None:
        try:
            step(*arguments, **settings)
        except Exception:
            traceback.print_exc(file=sys.__stderr__)
            raise

    return run


class World:
    """What all schedules share: the provider, its state, and the process that forks the stages."""

    provider: Server
    home: Path
    socket: Path
    ends: float
    number = 0


class Schedule(RuleBasedStateMachine):
    """One project, whose stages meet faults. The provider has its own habits."""

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None
        self.habits: dict[str, Any] = {}

    @initialize(habit=st.sampled_from(["", *HABITS]), clock=st.sampled_from([-300, 0, 300]))
    @printed_at_once
    def begin(self, habit: str, clock: int) -> None:
        """Make a project with new data, a commit and a budget for JOBS jobs."""
        if time.monotonic() > World.ends:
            return
        World.number += 1
        self.habits, self.clock = HABITS.get(habit, {}), clock
        self.folder = Path(tempfile.mkdtemp(prefix="schedule", dir=World.home.parent)) / "project"
        self.folder.mkdir()
        make_project(self.folder, World.provider)
        self.set_params("seed: 7", f"seed: 7, budget: {{total_usd: {JOBS * 0.4 + 0.1}}}")
        (self.folder / "models.toml").write_text(f'["tiny".local]\ntraining = {PRICE}\n', encoding="utf-8")
        shutil.copytree(self.repository(), self.folder / ".git")

    def repository(self) -> Path:
        """Return the folder .git of a repository with one commit of its own."""
        assert self.folder
        made = self.folder.parent / "git"
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run([*git, "init", "-q", made], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", str(self.folder)], check=True, cwd=made)
        return made / ".git"

    def set_params(self, old: str, new: str) -> None:
        assert self.folder
        path = self.folder / "params.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    def start(self, stage: str, folder: Path | None = None) -> Child:
        assert self.folder
        user = str(self.folder.parent / "user")
        return Child(World.socket, folder or self.folder, [stage], self.clock, FINETUNE_HOME=user)

    def end(self, child: Child, may_be_killed: bool = False) -> int:
        """Return the exit status; a message instead of a traceback, and no key in it."""
        status = child.wait()
        printed = child.printed.read_text(encoding="utf-8")
        assert "Traceback" not in printed, printed
        assert KEY not in printed
        assert status in (0, 1) or (may_be_killed and status == -9), (status, printed)
        assert status != 1 or "→" in printed, printed
        return status

    @rule(step=st.sampled_from(sorted(STEPS)), fault=SOME_FAULT)
    @printed_at_once
    def run_a_stage(self, step: str, fault: str | None) -> None:
        """Run a stage, whose planned call may fail."""
        if self.folder is None:
            return
        stage, pattern, skip = STEPS[step]
        World.provider.plan = Plan(pattern, skip, {**FAULTS, **KILLS}.get(fault or ""), **self.habits)
        child = self.start(stage)
        World.provider.client = child  # type: ignore[assignment]
        self.end(child, may_be_killed=fault in KILLS)

    @rule(fault=SOME_FAULT)
    @printed_at_once
    def create(self, fault: str | None) -> None:
        """Upload without a fault, then train with one at the creation: most of the schedules should come so far."""
        if self.folder is None:
            return
        World.provider.plan = Plan(**self.habits)
        self.end(self.start("upload"))
        self.run_a_stage("jobs.create", fault)

    @rule()
    @printed_at_once
    def two_at_once(self) -> None:
        if self.folder is None:
            return
        World.provider.plan = Plan(**self.habits)
        clone = self.folder.with_name("clone")
        shutil.copytree(self.folder, clone)
        for child in [self.start("train"), self.start("train", clone)]:
            self.end(child)
        shutil.rmtree(clone)

    @rule()
    @printed_at_once
    def clone_again(self) -> None:
        """Lose all that Git does not keep."""
        if self.folder is None:
            return
        for name in ("models", ".finetune"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @rule(old=st.integers(7, 9), new=st.integers(7, 9))
    @printed_at_once
    def change_the_seed(self, old: int, new: int) -> None:
        if self.folder is not None:
            self.set_params(f"seed: {old}", f"seed: {new}")

    @invariant()
    @printed_at_once
    def nothing_is_paid_twice(self) -> None:
        if self.folder is None:
            return
        files = rows(World.home, "SELECT filename, COUNT(*) FROM files WHERE purpose = 'fine-tune' GROUP BY filename")
        assert max((count for _, count in files), default=0) <= 1, files
        live = "SELECT COUNT(*) FROM jobs WHERE status NOT IN ('failed', 'cancelled') GROUP BY training_file, seed"
        assert max((count for (count,) in rows(World.home, live)), default=0) <= 1

    @printed_at_once
    def teardown(self) -> None:
        """End without faults: with the model, or over the budget."""
        if self.folder is None:
            return
        World.provider.plan = Plan(**self.habits)
        assert self.end(self.start("upload")) == 0
        child = self.start("train")
        if self.end(child) != 0:
            assert "total_usd" in child.printed.read_text(encoding="utf-8"), child.printed.read_text(encoding="utf-8")
        else:
            record = json.loads((self.folder / "models" / "model.json").read_text(encoding="utf-8"))
            assert record["model"]
        file = json.loads((self.folder / "models" / "files.json").read_text(encoding="utf-8"))["train"]["id"]
        self.nothing_is_paid_twice()
        made = rows(World.home, "SELECT id FROM jobs WHERE training_file = ?", file)
        assert len(made) <= JOBS
        shutil.rmtree(self.folder.parent)


@pytest.fixture
def world(home: Path, forked_workers: None, tmp_path: Path) -> Iterator[None]:
    path = Path(tempfile.mkdtemp()) / "s"  # short, because the length of a socket's path is limited
    with faulty_engine() as World.provider:
        World.home, World.socket, World.ends = home, path, time.monotonic() + SECONDS
        World.provider.hang_seconds = 1.5
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
        warm = subprocess.Popen(
            [sys.executable, HERE / "warm_stages.py", path], env=environment, stdout=subprocess.PIPE
        )
        assert warm.stdout
        assert warm.stdout.readline() == b"ready\n"
        yield
        warm.kill()
        warm.wait()
        warm.stdout.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(path.parent)


def test_random_schedules_pay_nothing_twice(world: None, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    run_state_machine_as_test(
        seed(SEED)(Schedule),
        settings=settings(
            max_examples=SCHEDULES,
            stateful_step_count=4,
            deadline=None,
            database=None,
            derandomize=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    with capsys.disabled():
        print(f" {World.number} schedules with seed {SEED} in {time.monotonic() - began:.0f} s ", end="")
    assert World.number >= min(SCHEDULES, 3)
