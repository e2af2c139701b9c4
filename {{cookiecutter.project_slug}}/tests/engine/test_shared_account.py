"""Several projects, experiments and machines with one account: who may spend, and who may delete."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty import STEPS, Plan, Server, meet
from faulty_engine import faulty_engine
from small_projects import make_project, provider_jobs, start

from finetune.core.disk import write_json
from finetune.core.paths import FILES, LEDGER, MODEL, PREPARED, VALIDATION_REPORT

PRICE = '["tiny".local]\ntraining = 4000.0\n'  # 100 tokens an epoch, so 0.4 dollars for a job


@pytest.fixture(scope="module")
def provider(home: Path, forked_workers: None) -> Iterator[Server]:
    with faulty_engine() as server:
        yield server


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True, cwd=folder)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "-qm", message)


@pytest.fixture
def project(provider: Server, tmp_path: Path) -> Path:
    """A project with a commit, and with a limit of one dollar for all of its jobs."""
    folder = tmp_path / "project"
    folder.mkdir()
    make_project(folder, provider)
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    limited = params.replace("seed: 7", "seed: 7, budget: {total_usd: 1.0}")
    (folder / "params.yaml").write_text(limited, encoding="utf-8")
    (folder / "models.toml").write_text(PRICE, encoding="utf-8")
    (folder / ".gitignore").write_text(".finetune\n", encoding="utf-8")
    git(folder, "init", "-q")
    commit(folder, f"Start in {tmp_path}")
    provider.plan = Plan()
    return folder


def experiment(project: Path, seed: int, name: str = "experiment") -> Path:
    """Return a workspace with the project's history, as `dvc exp run --temp` makes one, and with another seed."""
    folder = project.parent / f"{name}-{seed}"
    git(project, "clone", "-q", str(project), str(folder))
    path = folder / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed: 7", f"seed: {seed}"), encoding="utf-8")
    return folder


def finish(stage: str, folder: Path, home: Path) -> tuple[int, str]:
    process = start(stage, folder, FINETUNE_HOME=str(home))
    printed = process.communicate(timeout=90)[0]
    return process.returncode, printed


@pytest.mark.slow
def test_experiments_at_once_keep_to_the_limit_of_all(home: Path, provider: Server, project: Path) -> None:
    """Each of three would fit alone. They have no ledger in common that is written before they start."""
    folders = [experiment(project, seed) for seed in (1, 2, 3)]
    mine = project.parent / "user"
    for folder in folders:
        assert finish("upload", folder, mine)[0] == 0
    known = provider_jobs(home)
    provider.plan = Plan(*STEPS["jobs.create"][1:], meet(2), times=2)
    running = [start("train", folder, FINETUNE_HOME=str(mine)) for folder in folders]
    outputs = [process.communicate(timeout=90)[0] for process in running]
    assert sorted(process.returncode for process in running) == [0, 0, 1], outputs
    refused = next(text for process, text in zip(running, outputs, strict=True) if process.returncode)
    assert "train.budget.total_usd is 1" in refused
    assert "Nothing was sent" in refused
    assert len(provider_jobs(home)) == len(known) + 2


@pytest.mark.slow
@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_job_without_a_bill_counts_by_its_estimate_on_every_machine(
    status: str, home: Path, provider: Server, project: Path
) -> None:
    first, second = experiment(project, 11), experiment(project, 12)
    for folder, user in ((first, "one"), (second, "another")):
        assert finish("upload", folder, project.parent / user)[0] == 0
    assert finish("train", first, project.parent / "one")[0] == 0

    def without_bill(call: str, content: bytes) -> bytes:
        if not call.startswith("GET /v1/fine_tuning/jobs"):
            return content
        answer = json.loads(content)
        for job in answer.get("data", []):
            if "trained_tokens" in job:
                job |= {"status": status, "trained_tokens": None}
        return json.dumps(answer).encode()

    known = provider_jobs(home)
    report = second / VALIDATION_REPORT
    write_json(report, json.loads(report.read_text(encoding="utf-8")) | {"train_tokens_per_epoch": 180})
    provider.plan = Plan(rewrite=without_bill)
    code, printed = finish("train", second, project.parent / "another")
    assert code == 1
    assert "spent $0.4 on 1 job " in printed
    assert "this one would cost $0.72" in printed
    assert provider_jobs(home) == known


@pytest.mark.slow
def test_clean_spares_what_another_project_has_adopted(home: Path, provider: Server, project: Path) -> None:
    """Both have the same data. The first commits nothing of the job; the second, on another machine, does."""
    ours, theirs = project.parent / "one", project.parent / "another"
    assert [finish(stage, project, ours)[0] for stage in ("upload", "train")] == [0, 0]
    adopting = project.parent / "adopting"
    shutil.copytree(project, adopting, ignore=shutil.ignore_patterns(".git", "models", "reports", ".finetune"))
    shutil.copytree(project / PREPARED, adopting / PREPARED, dirs_exist_ok=True)
    shutil.copytree(project / "reports", adopting / "reports", ignore=shutil.ignore_patterns(LEDGER.name))
    git(adopting, "init", "-q")
    commit(adopting, "Another start")
    known = provider_jobs(home)
    assert [finish(stage, adopting, theirs)[0] for stage in ("upload", "train")] == [0, 0]
    assert provider_jobs(home) == known  # nothing is paid twice
    assert (project / LEDGER).read_text(encoding="utf-8").count("ftjob-") == 1
    assert not (adopting / LEDGER).exists()  # nor counted twice: the bill is the other project's
    commit(adopting, "A fine-tune")
    record = json.loads((adopting / MODEL).read_text(encoding="utf-8"))
    held = {record["model"], *(file["id"] for file in json.loads((adopting / FILES).read_text()).values())}

    def unneeded(folder: Path, user: Path) -> set[str]:
        code, printed = finish_command(["files", "clean", "--json"], folder, user)
        assert code == 0, printed
        return {one["id"] for one in json.loads(printed)}

    for path in (MODEL, FILES):
        (project / path).unlink()
    git(project, "checkout", "-q", "--", ".")
    assert not unneeded(project, ours) & held
    assert not unneeded(adopting, theirs) & held
    # Without the adopting project's marks, the first one could delete all of it.
    git(adopting, "checkout", "-q", "HEAD~1")
    git(adopting, "branch", "-D", "-q", current_branch(adopting))
    marks = unneeded(adopting, theirs)
    assert marks
    for mark in marks:
        assert finish_command(["files", "clean", "--delete", "--yes"], adopting, theirs)[0] == 0, mark
    assert held <= unneeded(project, ours)


def current_branch(folder: Path) -> str:
    names = subprocess.run(["git", "branch", "--format=%(refname:short)"], cwd=folder, capture_output=True, text=True)
    return next(name for name in names.stdout.split("\n") if name and not name.startswith("("))


def finish_command(arguments: list[str], folder: Path, home: Path) -> tuple[int, str]:
    process = start(arguments[0], folder, *arguments[1:], FINETUNE_HOME=str(home))
    printed = process.communicate(timeout=60)[0]
    return process.returncode, printed
