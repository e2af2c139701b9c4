"""Which stages `dvc repro` runs, and that it creates one job. DVC and the training are real; the base is tiny."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Bake, Project

TEAMS = ("delivery", "billing", "technical", "returns", "account", "sales", "privacy", "careers")


def start(project: Project, *command: str, **more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=project.path,
        env={**project.environment, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell makes programs in the background ignore Ctrl-C; in a terminal they do not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_step(project: Project, step: int) -> None:
    """Wait until the engine's newest job has done this many steps."""
    import sqlite3

    for _ in range(6000):
        if (project.home / "engine.db").exists():
            db = sqlite3.connect(project.home / "engine.db", timeout=30)
            try:
                row = db.execute(
                    "SELECT count(*) FROM steps WHERE job = (SELECT id FROM jobs ORDER BY n DESC)"
                ).fetchone()
            except sqlite3.OperationalError:
                row = (0,)
            finally:
                db.close()
            if row[0] >= step:
                return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was never reached")


def workers(project: Project) -> list[int]:
    """Return the process IDs of the workers of a project's engine."""
    found = subprocess.run(
        ["pgrep", "-f", f"finetune.engine.worker {project.home}"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


@pytest.fixture(scope="module")
def done(tiny: Project) -> Project:
    """Return the project after its first run, committed."""
    answered = ["prepare", "validate", "upload", "train", "baseline", "tuned"]
    assert tiny.repro() == [*answered, "evaluate", "export", "report"]
    tiny.commit()
    return tiny


def test_the_first_run_writes_metrics_plots_and_a_report(done: Project) -> None:
    assert len(done.jobs()) == 1
    shown = json.loads(done.run("dvc", "metrics", "show", "--json", "reports/evaluation.json").stdout)
    report = shown[""]["data"]["reports/evaluation.json"]["data"]
    ours = {"task", "metric", "n", "evaluated", "base", "few_shot", "tuned", "floors", "rival", "also", "gates_met"}
    assert set(report) == ours | {"lift", "lift_over_few_shot", "saved_prompt_tokens", "saved_usd_per_1000"}
    assert report["tuned"]["accuracy_low"] <= report["tuned"]["accuracy"] <= report["tuned"]["accuracy_high"]
    assert 0 <= report["lift"]["p_value"] <= 1
    with open(done.path / "reports" / "classes.csv", encoding="utf-8") as table:
        assert {row["class"] for row in csv.DictReader(table)} >= {"billing", "careers"}
    assert "tuned against base: " in done.stage("show").stdout
    done.run("dvc", "plots", "show")
    page = (done.path / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    for title in ("Confusion of the tuned model", "F1 per class", "Token accuracy"):
        assert title in page
    assert "<svg" in (done.path / "reports" / "report.html").read_text(encoding="utf-8")
    assert "| accuracy |" in (done.path / "reports" / "report.md").read_text(encoding="utf-8")
    record = json.loads((done.path / "models" / "model.json").read_text(encoding="utf-8"))
    assert record["hyperparameters"]["n_epochs"] == 2
    assert sorted(p.name for p in (done.path / "models" / "weights").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert done.run("git", "status", "--porcelain").stdout == ""


def test_a_second_run_does_nothing(done: Project) -> None:
    assert done.repro() == []
    assert done.run("git", "status", "--porcelain").stdout == ""


def test_a_comment_in_the_train_stage_trains_nothing(done: Project) -> None:
    path = done.path / "finetune" / "stages" / "train.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# a comment\n", encoding="utf-8")
    assert done.repro() == []
    done.run("git", "checkout", "-q", ".")


def test_a_changed_parameter_runs_its_stages_and_a_reverted_one_restores_their_outputs(done: Project) -> None:
    before = (done.path / "models" / "model.json").read_bytes()
    done.set("train.n_epochs", 1)
    assert done.repro() == ["validate", "train", "tuned", "evaluate", "export", "report"]
    assert len(done.jobs()) == 2
    assert "models/model.json" in done.run("dvc", "metrics", "diff").stdout
    done.run("git", "checkout", "-q", "params.yaml")
    assert done.repro() == ["report"]  # it costs nothing, and has no run cache
    assert len(done.jobs()) == 2
    assert (done.path / "models" / "model.json").read_bytes() == before
    # What was paid for the other job stays in the ledger, which the report depends on.
    assert done.run("git", "status", "--porcelain").stdout == " M dvc.lock\n M reports/ledger.csv\n"
    ledger = (done.path / "reports" / "ledger.csv").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in ledger.splitlines()[1:]] == [job for job, _ in done.jobs()]
    done.commit()


@pytest.mark.slow
def test_two_commits_are_compared_by_their_predictions(done: Project) -> None:
    found = json.loads(done.stage("compare", "HEAD", "--json").stdout)
    rows = (done.path / "data" / "prepared" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert found["n"] == len(rows)
    assert (found["lift"]["wins"], found["lift"]["losses"], found["differences"]) == (0, 0, {})
    done.set("train.n_epochs", 1)
    done.repro()
    other = json.loads(done.stage("compare", "HEAD", "--json").stdout)
    assert set(other["differences"]) >= {"model", "hyperparameters"}
    assert other["after"]["accuracy"] - other["before"]["accuracy"] == pytest.approx(other["lift"]["lift"], abs=1e-3)
    assert "against HEAD" in done.stage("compare", "HEAD").stdout
    assert "no-such-commit" in done.stage("compare", "no-such-commit", code=1).stderr
    done.run("git", "checkout", "-q", ".")
    assert done.repro() == ["report"]


@pytest.mark.slow
def test_a_model_is_promoted_only_if_it_meets_the_gates_and_is_committed(done: Project) -> None:
    done.set("evaluate.require", {"tuned.accuracy": "> 1"})
    assert done.repro() == ["validate", "evaluate", "report"]
    refused = done.stage("promote", code=1).stderr
    assert "was not promoted: tuned.accuracy is" in refused
    assert done.run("git", "tag").stdout == ""
    done.set("evaluate.require", {"tuned.accuracy": ">= 0"})
    done.repro()
    assert "a tag belongs to a commit" in done.stage("promote", code=1).stderr
    done.commit()
    assert "met: tuned.accuracy is " in done.stage("promote", "--stage", "trial").stdout
    promoted = json.loads(done.stage("promote", "--stage", "staging", "--json").stdout)
    assert promoted["version"] == "v0.0.1"
    assert "tuned-model@v0.0.1" in done.run("git", "tag").stdout
    assert "staging" in done.run("gto", "show").stdout


@pytest.mark.slow
def test_a_fresh_clone_without_a_remote_finds_its_job(done: Project, tmp_path: Path) -> None:
    jobs = done.jobs()
    clone = done.clone(tmp_path / "clone")
    assert "upload" not in clone.repro()
    assert clone.jobs() == jobs
    assert clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_a_clone_with_another_engine_takes_the_model_from_dvc(done: Project, tmp_path: Path) -> None:
    clone = Project(done.clone(tmp_path / "clone").path, done.binaries, tmp_path / "home")
    shutil.copytree(done.home / "bases", clone.home / "bases")
    ask = ("ask", "Where is my parcel?", "--json")
    failed = clone.stage(*ask, code=1).stderr
    assert "dvc fetch train --all-commits" in failed
    shutil.copytree(done.path / ".dvc" / "cache", clone.path / ".dvc" / "cache")
    clone.run("dvc", "checkout")
    clone.set("evaluate.max_tokens", 7)
    output = clone.run("dvc", "repro").stdout
    assert "Running stage 'tuned'" in output
    assert "Running stage 'train'" not in output
    assert clone.jobs() == []
    record = "models/model.json"
    assert (clone.path / record).read_bytes() == (done.path / record).read_bytes()
    assert clone.stage(*ask).stdout == done.stage(*ask, "--max-tokens", "7").stdout
    # So does a command, from a remote.
    other = Project(done.clone(tmp_path / "other").path, done.binaries, tmp_path / "other-home")
    shutil.copytree(done.home / "bases", other.home / "bases")
    for project in (clone, other):  # the commit of the model does not name the remote
        project.run("dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    clone.run("dvc", "push", "train")
    asked = other.stage(*ask)
    assert "Its weights were taken from DVC" in asked.stderr
    assert asked.stdout == done.stage(*ask).stdout
    assert "taken from DVC" not in other.stage(*ask).stderr


@pytest.mark.slow
def test_a_clone_without_model_key_and_engine_scores_again(
    done: Project, set_up: dict[str, Path], tmp_path: Path
) -> None:
    """The clone has only files, from DVC's cache. Parameters that only scoring reads change; no model is asked."""
    clone = Project(done.clone(tmp_path / "clone").path, set_up["without"] / ".venv" / "bin", tmp_path / "home")
    shutil.rmtree(clone.path / "finetune" / "engine")
    shutil.copytree(done.path / ".dvc" / "cache", clone.path / ".dvc" / "cache")
    clone.run("dvc", "checkout")
    report = clone.path / "reports" / "evaluation.json"
    before = json.loads(report.read_text(encoding="utf-8"))
    # What does not decide the job runs neither upload nor train.
    clone.set("provider.warn_days", 5)
    clone.set("train.budget", {"usd": 100.0})
    assert clone.repro() == ["validate"]
    for change in (
        {"evaluate.require": {"tuned.accuracy": "> 2"}},
        {"evaluate.beta": 2.0},
        {"evaluate.also": {"general": {"file": "data/also/general.jsonl", "task": "classify", "max_tokens": 8}
                           | {"margin": 0.9}}},
        {"data.labels": sorted(TEAMS)},
    ):  # fmt: skip
        for key, value in change.items():
            clone.set(key, value)
        ran = clone.repro("evaluate", "report")
        assert set(ran) <= {"prepare", "validate", "evaluate", "report"}
        assert "evaluate" in ran
        now = json.loads(report.read_text(encoding="utf-8"))
        assert now["tuned"]["accuracy"] == before["tuned"]["accuracy"]
        assert {**now["lift"], "f_beta": 0} == {**before["lift"], "f_beta": 0}
    assert now["gates_met"] == 0
    # To ask less, the answers of the last commit are enough.
    clone.set("evaluate.also", {})
    assert clone.repro("evaluate", "report") == ["validate", "baseline", "tuned", "evaluate", "report"]
    less = json.loads(report.read_text(encoding="utf-8"))
    assert (less["also"], less["tuned"]) == ({}, now["tuned"])
    # A price changes the estimate, and uploads nothing.
    with open(clone.path / "models.toml", "a", encoding="utf-8") as prices:
        prices.write('\n["SmolLM2-135M-Instruct".local]\ntraining = 1.0\n')
    assert set(clone.repro("evaluate", "report")) <= {"prepare", "validate", "evaluate", "report"}
    assert not (tmp_path / "home" / "engine.db").exists()


@pytest.mark.slow
def test_the_error_of_a_stage_ends_with_the_command_that_restores_its_outputs(done: Project, tmp_path: Path) -> None:
    """The clone has another home, whose engine lacks the base, so the base model cannot be asked."""
    clone = Project(done.clone(tmp_path / "clone").path, done.binaries, tmp_path / "home")
    shutil.copytree(done.path / ".dvc" / "cache", clone.path / ".dvc" / "cache")
    clone.run("dvc", "checkout")
    before = (clone.path / "predictions" / "base.jsonl").read_bytes()
    clone.set("evaluate.max_tokens", 7)
    failed = clone.run("dvc", "repro", "evaluate", code=255).stderr
    assert not (clone.path / "predictions" / "base.jsonl").exists()
    command = failed.split("Restore the former outputs of baseline with: ")[1].splitlines()[0]
    clone.run("bash", "-c", command)
    assert (clone.path / "predictions" / "base.jsonl").read_bytes() == before


@pytest.mark.slow
def test_an_experiment_runs_in_a_separate_workspace(done: Project) -> None:
    jobs = done.jobs()
    done.run("dvc", "exp", "run", "--temp", "-S", "train.n_epochs=1", "--name", "short")
    assert done.jobs() == jobs  # an earlier test created this job
    shown = json.loads(done.run("dvc", "metrics", "show", "--json", "models/model.json").stdout)
    assert shown[""]["data"]["models/model.json"]["data"]["hyperparameters"]["n_epochs"] == 2
    assert "short" in done.run("dvc", "exp", "list").stdout
    assert done.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_after_kills_of_stage_and_worker_there_is_one_job_with_the_same_bytes(done: Project, tmp_path: Path) -> None:
    """Stage and worker are killed twice. A run without kills, in another home, must give the same bytes."""
    quiet = Project(done.clone(tmp_path / "quiet").path, done.binaries, tmp_path / "quiet-home")
    shutil.copytree(done.home / "bases", quiet.home / "bases")
    for project in (done, quiet):
        project.set("train.n_epochs", 6)
    quiet.set("evaluate.concurrency", 3)  # in other batches, the answers are the same
    known = len(done.jobs())
    for step in (1, 20):
        running = start(done, "dvc", "repro")
        wait_for_step(done, step)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        for pid in workers(done):
            os.kill(pid, signal.SIGKILL)
    assert "train" in done.repro()
    job = json.loads((done.path / "models" / "model.json").read_text(encoding="utf-8"))["job"]
    assert [name for name, _ in done.jobs()][known:] == [job]
    quiet.repro()  # the other engine lacks the uploaded files: train uploads them
    assert len(quiet.jobs()) == 1
    for name in ("models/weights/adapter_model.safetensors", "predictions/base.jsonl", "predictions/tuned.jsonl"):
        assert (done.path / name).read_bytes() == (quiet.path / name).read_bytes(), name
    done.run("git", "checkout", "-q", ".")


@pytest.mark.slow
def test_ctrl_c_leaves_the_job_running_and_says_how_to_stop_it(done: Project) -> None:
    done.set("train.n_epochs", 50)
    known = len(done.jobs())
    running = start(done, "python", "-m", "finetune", "train")
    for _ in range(6000):
        if len(done.jobs()) > known:
            break
        time.sleep(0.05)
    wait_for_step(done, 1)
    os.killpg(running.pid, signal.SIGINT)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 130, output
    job, status = done.jobs()[-1]
    assert f"finetune jobs cancel {job}" in output
    assert "Traceback" not in output
    assert status == "running"
    assert workers(done)
    assert "cancelled" in done.stage("jobs", "cancel", job).stdout
    assert job in done.stage("jobs", "list", "--json").stdout
    for _ in range(1200):
        if not workers(done):
            break
        time.sleep(0.1)
    assert not workers(done)
    done.run("git", "checkout", "-q", ".")


SCRIPT = """
import sys, time, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], _strict_response_validation=True)
with open(sys.argv[3], "rb") as data:
    file = client.files.create(file=data, purpose="fine-tune")
job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, seed=1)
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.5)
    job = client.fine_tuning.jobs.retrieve(job.id)
    client.fine_tuning.jobs.list_events(job.id)
assert job.status == "succeeded", job.error
newest = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
assert newest.fine_tuned_model_checkpoint == job.fine_tuned_model
answer = client.chat.completions.create(
    model=job.fine_tuned_model, messages=[{"role": "user", "content": "hello"}], max_tokens=4, logprobs=True
)
assert answer.choices[0].logprobs is not None
print("fine")
"""


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_for_port(port: int) -> None:
    import socket

    for _ in range(2400):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


@pytest.mark.slow
def test_the_openai_package_works_with_serve(done: Project) -> None:
    port = free_port()
    serving = start(done, "python", "-m", "finetune", "serve", "--port", str(port))
    try:
        assert serving.stdout is not None
        key = serving.stdout.readline().split()[-1]
        wait_for_port(port)
        url = f"http://127.0.0.1:{port}/v1"
        script = done.run("python", "-c", SCRIPT, url, key, "data/prepared/train.jsonl")
        assert script.stdout == "fine\n"
        taken = done.stage("serve", "--port", str(port), code=1)
        assert f"error: Cannot listen on 127.0.0.1:{port}" in taken.stderr
        assert "--port" in taken.stderr
        # The pipeline can use this server too: its address is in params.yaml, its key in the environment or .env.
        done.set("provider.base_url", url)
        (done.path / ".env").write_text(f"FINETUNE_ENGINE_KEY={key}\n", encoding="utf-8")
        assert "ftjob-" in done.stage("jobs", "list").stdout
        (done.path / ".env").unlink()
        assert "FINETUNE_ENGINE_KEY" in done.stage("jobs", "list", code=1).stderr
        wrong = done.stage("jobs", "list", code=1, FINETUNE_ENGINE_KEY="wrong")
        assert "401" in wrong.stderr
        assert "wrong" not in wrong.stderr
    finally:
        os.killpg(serving.pid, signal.SIGINT)
        rest = serving.communicate(timeout=120)[0]
        done.run("git", "checkout", "-q", ".")
    assert key not in rest
    for path in done.home.glob("*.log"):
        assert key not in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_provider_is_changed_by_one_line_in_params(done: Project, tmp_path: Path) -> None:
    """Train the same data on two engines, each with its own address, home and key, and compare them with DVC."""
    project = done.clone(tmp_path / "clone")
    servers = []
    try:
        for name in ("one", "two"):
            home = tmp_path / f"{name}-home"
            shutil.copytree(done.home / "bases", home / "bases")
            port = free_port()
            running = start(
                project,
                *("python", "-m", "finetune", "serve", "--port", str(port)),
                FINETUNE_HOME=str(home),
                FINETUNE_ENGINE_KEY=name,
            )
            servers.append(running)
            wait_for_port(port)
            project.set("provider.base_url", f"http://127.0.0.1:{port}/v1")
            (project.path / ".env").write_text(f"FINETUNE_ENGINE_KEY={name}\n", encoding="utf-8")
            assert "train" in project.repro()
            assert len(Project(project.path, project.binaries, home).jobs()) == 1
            if name == "one":
                project.commit()
        diff = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
        changed = diff["models/model.json"]
        assert changed["model"]["old"] != changed["model"]["new"]
        # It is the same fine-tune on another server: neither the fingerprint nor a figure has changed.
        assert "fingerprint" not in changed
        assert diff["reports/evaluation.json"].keys() == {"evaluated.model"}
    finally:
        for running in servers:
            os.killpg(running.pid, signal.SIGINT)
            running.communicate(timeout=120)


@pytest.mark.parametrize(
    ("change", "stage", "words"),
    [
        ({"data.file": "data/raw/none.csv"}, "prepare", ["data/raw/none.csv", "data.file"]),
        ({"data.prompt.user": "{text}"}, "prepare", ["data.prompt.user", "'text'", "message, team"]),
        ({"train.n_epoch": 2}, "prepare", ["train.n_epoch"]),
        ({"train.n_epochs": "two"}, "train", ["train.n_epochs"]),
        ({"provider.name": "openai"}, "upload", ["OPENAI_API_KEY", ".env"]),
        ({"provider.name": "azure"}, "upload", ["provider.base_url"]),
        ({"train.base": "no-such-model"}, "train", ["no-such-model", "train.base"]),
        (
            {"provider.name": "compatible", "provider.base_url": "http://127.0.0.1:9/v1"},
            "upload",
            ["http://127.0.0.1:9/v1", "provider.base_url"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_names_the_parameter_and_no_file_changes(
    done: Project, change: dict[str, object], stage: str, words: list[str]
) -> None:
    before = {path: path.read_bytes() for path in done.path.glob("[dmr]*/**/*") if path.is_file()}
    for key, value in change.items():
        done.set(key, value)
    failed = done.stage(stage, code=1, FINETUNE_API_KEY="secret-key-of-the-test")
    for word in words:
        assert word in failed.stderr
    assert failed.stderr.startswith("error: ") or "\nerror: " in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "secret-key-of-the-test" not in failed.stdout + failed.stderr
    assert {path: path.read_bytes() for path in before} == before
    done.run("git", "checkout", "-q", ".")


@pytest.mark.slow
def test_too_few_examples_and_broken_lines_stop_before_upload(done: Project) -> None:
    jobs = done.jobs()
    raw = done.path / "data" / "raw" / "messages.csv"
    lines = raw.read_text(encoding="utf-8").splitlines()
    raw.write_text("\n".join(lines[:9]) + "\n", encoding="utf-8")
    failed = done.run("dvc", "repro", code=255)
    assert "at least 10" in failed.stderr
    raw.write_text("", encoding="utf-8")
    assert "has no rows" in done.stage("prepare", code=1).stderr
    (done.path / "data" / "raw" / "x.jsonl").write_text('{"message": "a", "team": "b"}\n{"message"\n', encoding="utf-8")
    done.set("data.file", "data/raw/x.jsonl")
    assert "data/raw/x.jsonl, line 2" in done.stage("prepare", code=1).stderr
    (done.path / "data" / "raw" / "x.jsonl").unlink()
    done.run("git", "checkout", "-q", ".")
    assert set(done.repro()) <= {"report"}  # it costs nothing, and has no run cache
    assert done.jobs() == jobs


@pytest.mark.slow
def test_a_failed_job_writes_no_record_and_the_former_one_is_kept(done: Project) -> None:
    train = done.path / "data" / "prepared" / "train.jsonl"
    done.run("dvc", "unprotect", "data/prepared/train.jsonl")
    whole = train.read_bytes()
    before = (done.path / "models" / "model.json").read_bytes()
    train.write_bytes(whole.replace(b'"assistant"', b'"robot"', 1))
    done.stage("upload")
    failed = done.stage("train", code=1)
    assert "invalid_training_file" in failed.stderr
    assert "(line 1)" in failed.stderr
    assert "data/prepared/train.jsonl" in failed.stderr
    assert (done.path / "models" / "model.json").read_bytes() == before
    # The same data would fail again, so no second job is created. DVC deletes the former record before it runs the
    # stage; the command in the message restores it.
    jobs = done.jobs()
    failed = done.run("dvc", "repro", "-f", "-s", "train", code=255)
    assert "data/prepared/train.jsonl:1" in failed.stderr
    assert done.jobs() == jobs
    assert not (done.path / "models" / "weights").exists()
    command = failed.stderr.split("Restore the former outputs of train with: ")[1].splitlines()[0]
    done.run("bash", "-c", command)
    assert (done.path / "models" / "model.json").read_bytes() == before
    assert (done.path / "models" / "weights" / "adapter_model.safetensors").stat().st_size > 0
    train.write_bytes(whole)
    done.run("git", "checkout", "-q", ".")
    assert done.repro() == []


@pytest.mark.further
def test_two_trainings_and_two_evaluations_from_nothing_are_the_same(bake: Bake, tiny: Project, tmp_path: Path) -> None:
    """Two homes have different caches and job IDs. The adapter and the answers are the same bytes."""
    outcomes = []
    for name in ("one", "two"):
        project = Project(tiny.clone(tmp_path / name).path, tiny.binaries, tmp_path / f"{name}-home")
        shutil.copytree(tiny.home / "bases", project.home / "bases")
        # The engine batches the requests differently: one run sends 32 at once, the other 3.
        project.set("evaluate.concurrency", 32 if name == "one" else 3)
        project.repro("-f")
        names = ("models/weights/adapter_model.safetensors", "predictions/base.jsonl", "predictions/tuned.jsonl")
        outcomes.append([(project.path / file).read_bytes() for file in names])
    assert outcomes[0] == outcomes[1]


def test_a_full_disk_is_reported_and_the_former_files_stay(done: Project) -> None:
    """The shell's limit on the size of a file replaces a full disk: the write fails in the same way."""
    train = done.path / "data" / "prepared" / "train.jsonl"
    before = train.read_bytes()
    failed = done.run("bash", "-c", "ulimit -f 2; python -m finetune prepare", code=1)
    assert "error: Cannot write data/prepared: " in failed.stderr
    assert "Traceback" not in failed.stderr
    assert train.read_bytes() == before
    assert not list(train.parent.glob(".*"))
