"""Test the commands for jobs, files, models, doctor, predict and chat on a real engine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import COLOURS, start_job, training_lines, wait
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl, write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import FILES, MODEL
from finetune.project import cleanup
from finetune.project.history import project_id
from finetune.provider.find_jobs import FINGERPRINT, PROJECT

PARAMS = """
data: {file: raw.csv, split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: local, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: 7}
evaluate: {max_tokens: 6, temperature: 0.0, concurrency: 8}
"""


def git(*arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module", autouse=True)
def project(client: openai.OpenAI, forked_workers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a project with a commit that uses the module's engine."""
    folder = tmp_path_factory.mktemp("project")
    text = PARAMS.replace("URL", str(client.base_url))
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNE_ENGINE_KEY", client.api_key)
        git("init", "-q")
        git("add", "params.yaml")
        git("commit", "-qm", "Start")
        yield folder


def run(*arguments: str, code: int = 0, answer: str | None = None) -> str:
    done = CliRunner().invoke(app, list(arguments), input=answer)
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def mine(fingerprint: str) -> dict[str, Any]:
    return {"metadata": {FINGERPRINT: fingerprint, PROJECT: project_id()}}


def test_jobs_are_listed_shown_and_followed(client: openai.OpenAI) -> None:
    job = start_job(client, epochs=1, **mine("f" * 64))
    other = start_job(client, epochs=1)
    assert run("jobs", "follow", job.id).splitlines()[-1].startswith("ft:tiny:local:")
    wait(client, other.id)
    listed = json.loads(run("jobs", "list", "--json"))
    assert [(one["job"], one["this_project"]) for one in listed[:2]] == [(other.id, False), (job.id, True)]
    assert [one["job"] for one in json.loads(run("jobs", "list", "--json", "--mine"))] == [job.id]
    assert job.id in run("jobs", "list")
    shown = run("jobs", "show", job.id)
    assert "n_epochs" in shown
    assert "The job has successfully completed" in shown
    whole = json.loads(run("jobs", "show", job.id, "--json"))
    assert whole["checkpoints"][0]["fine_tuned_model_checkpoint"] == whole["fine_tuned_model"]


def test_a_job_pauses_resumes_and_is_cancelled(client: openai.OpenAI) -> None:
    job = start_job(client, epochs=50)
    while client.fine_tuning.jobs.retrieve(job.id).status == "validating_files":
        time.sleep(0.05)
    assert "paused" in run("jobs", "pause", job.id)
    assert run("jobs", "resume", job.id).split()[-1] in ("queued", "running")  # a worker may have taken it at once
    assert "cancelled" in run("jobs", "cancel", job.id)
    with pytest.raises(FinetuneError, match="cannot be paused"):
        CliRunner().invoke(app, ["jobs", "pause", job.id], catch_exceptions=False)


@pytest.mark.slow
def test_clean_deletes_only_what_this_project_made_and_no_commit_refers_to(
    client: openai.OpenAI, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = wait(client, start_job(client, epochs=1, examples=15, **mine("a" * 64)).id)
    left = wait(client, start_job(client, epochs=1, examples=18, **mine("b" * 64)).id)
    foreign = wait(client, start_job(client, epochs=1, examples=21).id)
    shared = client.fine_tuning.jobs.create(model="tiny", training_file=left.training_file, seed=1)
    stray = client.files.create(file=("stray.jsonl", training_lines(12)), purpose="fine-tune")
    record = {"fingerprint": "a" * 64, "model": kept.fine_tuned_model, "checkpoints": [], "lineage": []}
    write_json(MODEL, record)
    write_json(FILES, {"train": {"id": kept.training_file, "sha256": "x"}})
    git("add", "models")
    git("commit", "-qm", "A fine-tune")
    MODEL.unlink()  # the commit still refers to it

    new = {thing["id"] for thing in json.loads(run("files", "clean", "--json"))}
    assert left.fine_tuned_model not in new  # it may be of an experiment that runs, and has no commit yet
    monkeypatch.setattr(cleanup, "SPARED", -1)
    found = json.loads(run("files", "clean", "--json"))
    named = {thing["id"] for thing in found}
    assert left.fine_tuned_model in named
    assert set(left.result_files) <= named
    # A job of another project uses the same file.
    assert left.training_file not in named
    for file in (kept.training_file, *kept.result_files, foreign.training_file, *foreign.result_files, stray.id):
        assert file not in named
    assert not {kept.fine_tuned_model, foreign.fine_tuned_model} & named
    assert client.models.retrieve(left.fine_tuned_model)  # it was a dry run

    run("files", "clean", "--delete", code=1, answer="n\n")
    assert client.models.retrieve(left.fine_tuned_model)
    run("files", "clean", "--delete", answer="y\n")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(left.fine_tuned_model)
    assert client.models.retrieve(kept.fine_tuned_model)
    assert client.files.retrieve(left.training_file)
    assert not {thing["id"] for thing in json.loads(run("files", "clean", "--json"))} & named
    wait(client, shared.id)
    assert kept.training_file in run("files", "list", "--limit", "100")
    listed = json.loads(run("files", "list", "--json", "--limit", "100"))
    assert [file["id"] for file in listed if file["in_history"]] == [kept.training_file]


def test_models_are_listed_shown_and_deleted_after_a_question(client: openai.OpenAI) -> None:
    """With --yes, a model of another project is not deleted."""
    job = start_job(client, epochs=1, examples=12, metadata={PROJECT: "0" * 40})
    model = wait(client, job.id).fine_tuned_model
    assert "tiny" in run("models", "list")
    assert model in {one["id"] for one in json.loads(run("models", "list", "--tuned", "--json"))}
    assert json.loads(run("models", "show", model, "--json"))["base"] == "tiny"
    assert f"another project created its job {job.id}" in run("models", "delete", model, code=1, answer="n\n")
    with pytest.raises(FinetuneError, match="another project created"):
        CliRunner().invoke(app, ["models", "delete", model, "--yes"], catch_exceptions=False)
    assert client.models.retrieve(model)
    run("models", "delete", model, answer="y\n")
    with pytest.raises(FinetuneError, match="does not exist"):
        CliRunner().invoke(app, ["models", "show", model], catch_exceptions=False)


def test_the_doctor_finds_no_fault_in_a_working_project(client: openai.OpenAI, project: Path) -> None:
    checks = {check["check"]: check for check in json.loads(run("doctor", "--json"))}
    states = {name: check["state"] for name, check in checks.items()}
    assert {name for name, state in states.items() if state == "wrong"} == set(), checks
    for name in ("Git", "key and address", "base model", "fine-tuning jobs", "quota", "disk here"):
        assert states[name] == "ok", checks[name]
    assert states["DVC remote"] == "warning"
    assert "dvc init" in checks["DVC remote"]["todo"]
    assert "✓" in run("doctor", "--no-ask")


@pytest.mark.parametrize(
    ("change", "environment", "message"),
    [
        (("base: tiny", "base: nothing-of-the-kind"), {}, "nothing-of-the-kind"),
        (("n_epochs: 1", "n_epoch: 1"), {}, "n_epoch"),
        (("name: local", "name: opneai"), {}, "provider.name"),
        (("suffix", "suffix"), {"FINETUNE_ENGINE_KEY": "wrong-key-of-the-test"}, "Check FINETUNE_ENGINE_KEY"),
        (("base_url: ", "base_url: http://127.0.0.1:9/v1 #"), {}, "No answer"),
        (("name: local, base_url", "name: openai, deploy: {}, base_url"), {"OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
    ],
)
def test_the_doctor_reports_each_fault(
    project: Path, tmp_path: Path, change: tuple[str, str], environment: dict[str, str], message: str
) -> None:
    text = (project / "params.yaml").read_text(encoding="utf-8").replace(*change).replace("#", "}  #")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "finetune", "doctor", "--no-ask"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stdout
    assert "✗" in done.stdout
    assert "Traceback" not in done.stderr
    assert "wrong-key-of-the-test" not in done.stdout + done.stderr


def test_the_doctor_names_a_folder_where_dvc_makes_no_workspaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, expected in (("東京 ü", True), ("Tokyo's desk", False)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found = CliRunner().invoke(app, ["doctor", "--no-ask", "--json"])
        assert ("folder" in {check["check"] for check in json.loads(found.output)}) == expected


def test_base_and_tuned_answer_a_file_and_in_a_chat(
    client: openai.OpenAI, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = wait(client, start_job(client, epochs=12).id)
    text = (project / "params.yaml").read_text(encoding="utf-8")
    prompt = "prompt: {user: '{text}', assistant: '{colour}'}, labels: [red, blue, green], split:"
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(text.replace("split:", prompt), encoding="utf-8")
    write_json(MODEL, {"model": job.fine_tuned_model})
    asked = [f"{number}: paint it {colour}" for number, colour in enumerate(["green", "red", "blue", "red"])]
    Path("new.csv").write_text("\n".join(["text", *asked]), encoding="utf-8")
    for name in ("base", "tuned"):
        run("predict", "new.csv", "--output", f"{name}.jsonl", "--model", name)
    rows = {name: read_jsonl(Path(f"{name}.jsonl"), "predict") for name in ("base", "tuned")}
    assert [row["text"] for row in rows["base"]] == [row["text"] for row in rows["tuned"]] == asked
    assert all(row["answer"] in COLOURS and 1 / 3 < row["confidence"] <= 1 for row in rows["tuned"])
    assert not any(row["answer"] in COLOURS for row in rows["base"])  # its weights are random
    printed = [line for line in run("chat", answer=f"{asked[1]}\n").split("\n") if line]
    assert printed[0] == "base"
    assert printed[printed.index("tuned") + 1] == rows["tuned"][1]["answer"]
