"""Random schedules of faults, kills and clocks: whatever happens, nothing is paid twice and no budget exceeded.

`make soak` runs a thousand. SOAK_SCHEDULES, SOAK_SEED and SOAK_SECONDS say how many, which, and for how long.

No call ends by a timeout, and waits for the provider's list move a clock in place of taking time (see quick.py): on a
slow machine a schedule is slower, and nothing else is different. The first violation is kept with its schedule, and is
reported also where hypothesis cannot repeat it.
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
from collections import Counter
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

SCHEDULES = int(os.environ.get("SOAK_SCHEDULES", "6"))
SEED = int(os.environ.get("SOAK_SEED", "16"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
FEWEST = min(SCHEDULES, 3)  # also where they take longer than SECONDS
JOBS = 2  # that the budget allows
PRICE = 4000.0  # dollars per million tokens, so that a job on 100 tokens costs 0.4
BY_TIMEOUT = ("hang", "slow-loris")  # which is what a busy machine does, too; test_faults.py has them
KILLS = {"kill-before": kill_before, "kill-after": kill_after}
SOME_FAULT = st.sampled_from([None, *(name for name in FAULTS if name not in BY_TIMEOUT), *KILLS])


def recorded(step: Callable[..., None]) -> Callable[..., None]:
    """Record the steps of a schedule. Of the first that fails, keep all that is known: it may not fail again."""

    @functools.wraps(step)
    def run(self: "Schedule", **drawn: Any) -> None:
        if step.__name__ != "nothing_is_paid_twice":
            self.steps.append(f"{step.__name__}({', '.join(f'{name}={value!r}' for name, value in drawn.items())})")
        try:
            step(self, **drawn)
        except Exception:
            if World.violation is None:
                calls = dict.fromkeys(World.provider.plan.seen)
                lines = [
                    f"Seed {SEED}, schedule {World.number}:",
                    *self.steps,
                    "The calls of the last stage, each once:",
                ]
                World.violation = "\n".join([*lines, *calls, traceback.format_exc()])
            raise

    return run


class World:
    """What all schedules share: the provider, its state, and the process that forks the stages."""

    provider: Server
    home: Path
    socket: Path
    ends: float
    number = 0
    violation: str | None = None  # the first one


class Schedule(RuleBasedStateMachine):
    """One project, whose stages meet faults. The provider has its own habits."""

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None
        self.habits: dict[str, Any] = {}
        self.steps: list[str] = []

    @initialize(habit=st.sampled_from(["", *HABITS]), clock=st.sampled_from([-300, 0, 300]))
    @recorded
    def begin(self, habit: str, clock: int) -> None:
        """Make a project with new data, a commit and a budget for JOBS jobs."""
        if World.violation or (World.number >= FEWEST and time.monotonic() > World.ends):
            return
        World.number += 1
        self.before = {table: rows(World.home, f"SELECT MAX(n) FROM {table}")[0][0] or 0 for table in ("files", "jobs")}
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
    @recorded
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
    @recorded
    def create(self, fault: str | None) -> None:
        """Upload without a fault, then train with one at the creation: most of the schedules should come so far."""
        if self.folder is None:
            return
        World.provider.plan = Plan(**self.habits)
        self.end(self.start("upload"))
        self.run_a_stage(step="jobs.create", fault=fault)

    @rule()
    @recorded
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
    @recorded
    def clone_again(self) -> None:
        """Lose all that Git does not keep."""
        if self.folder is None:
            return
        for name in ("models", ".finetune"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @rule(old=st.integers(7, 9), new=st.integers(7, 9))
    @recorded
    def change_the_seed(self, old: int, new: int) -> None:
        if self.folder is not None:
            self.set_params(f"seed: {old}", f"seed: {new}")

    @invariant()
    @recorded
    def nothing_is_paid_twice(self) -> None:
        if self.folder is None:
            return
        query = "SELECT filename, COUNT(*) FROM files WHERE purpose = 'fine-tune' AND n > ? GROUP BY filename"
        files = rows(World.home, query, self.before["files"])
        assert max((count for _, count in files), default=0) <= 1, files
        query = "SELECT id, status, training_file, seed FROM jobs WHERE n > ?"
        jobs = rows(World.home, query, self.before["jobs"])
        live = Counter((file, seed) for _, status, file, seed in jobs if status not in ("failed", "cancelled"))
        assert max(live.values(), default=0) <= 1, jobs

    @recorded
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
        World.number, World.violation = 0, None
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


@pytest.mark.slow
def test_random_schedules_pay_nothing_twice(world: None, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    try:
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
    except Exception:
        if World.violation is None:
            raise
    if World.violation:  # whether hypothesis could repeat it or not
        pytest.fail(World.violation, pytrace=False)
    with capsys.disabled():
        print(f" {World.number} schedules with seed {SEED} in {time.monotonic() - began:.0f} s ", end="")
    assert World.number >= FEWEST
