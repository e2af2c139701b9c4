"""What the stage train makes of a job: the chosen checkpoint, lineage, ledger, events, large files."""

import csv
import dataclasses
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import quick
from conftest import COLOURS
from ruamel.yaml import YAML

from finetune.core.disk import write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import load_params
from finetune.core.paths import FILES, LEDGER, MODEL, PREPARED, PREPARED_REPORT, VALIDATION_REPORT, WEIGHTS
from finetune.core.profiles import PROFILES
from finetune.engine.embedded import embedded
from finetune.provider import remote_files, twin_jobs
from finetune.stages import train, upload


@pytest.fixture(scope="module", autouse=True)
def _project(client: openai.OpenAI, forked_workers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A project with a commit, on the module's engine."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quick.use_engine(patch, client.api_key)
        patch.setattr(twin_jobs, "LIST_DELAY", 0.01)
        for split, numbers in (("train", range(24)), ("valid", range(24, 30))):
            write_jsonl(PREPARED / f"{split}.jsonl", [example(n) for n in numbers])
        write_json(VALIDATION_REPORT, {"train_tokens_per_epoch": 1000, "auto": {"n_epochs": 3}})
        write_json(PREPARED_REPORT, {"prompt": "x", "codes": {}, "completion": None})
        write_params(client)
        git("init", "-q")
        commit()
        yield


def example(number: int) -> dict[str, Any]:
    colour = COLOURS[number % 3]
    asked = {"role": "user", "content": f"{number}: paint it {colour}"}
    return {"messages": [asked, {"role": "assistant", "content": colour}]}


def write_params(client: openai.OpenAI, **more: Any) -> None:
    values = {
        "data": {"file": "raw.csv", "labels": COLOURS, "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
        "provider": {"name": "local", "base_url": str(client.base_url)},
        "train": {
            "base": "tiny",
            "method": "supervised",
            "n_epochs": 3,
            "batch_size": 8,
            "learning_rate_multiplier": 2.0,
            "seed": 7,
            **more,
        },
        "evaluate": {"max_tokens": 6, "temperature": 0.0, "concurrency": 8},
    }
    YAML().dump(values, Path("params.yaml"))


def git(*arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str:
    git("add", "-A")
    git("commit", "-qm", "x", "--allow-empty")
    return git("rev-parse", "HEAD")


def trained(client: openai.OpenAI, **more: Any) -> Any:
    write_params(client, **more)
    upload.run(load_params())
    return train.run(load_params())


@pytest.mark.slow
def test_each_value_of_choose_takes_its_checkpoint_of_the_same_job(client: openai.OpenAI) -> None:
    last = trained(client)
    assert [one["step"] for one in last["checkpoints"]] == [3, 6, 9]
    assert last["model"] == last["model_of_last_step"] == last["checkpoints"][-1]["model"]
    assert last["chosen"] == {"by": "last", "step": 9, "why": "the last"}

    by_loss = trained(client, choose="best_valid_loss")
    losses = {one["model"]: one["full_valid_loss"] for one in by_loss["checkpoints"]}
    assert by_loss["model"] == min(losses, key=lambda name: losses[name])
    assert f"{min(losses.values()):.4f}" in by_loss["chosen"]["why"]

    by_metric = trained(client, choose="best_metric")
    assert "accuracy" in by_metric["chosen"]["why"]
    assert by_loss["chosen_valid_loss"] == min(losses.values())
    assert last["chosen_valid_loss"] == last["checkpoints"][-1]["full_valid_loss"]
    assert by_loss["chosen_valid_score"] is None
    assert f"{by_metric['chosen_valid_score']:.4f}" in by_metric["chosen"]["why"]
    assert by_metric["model"] in losses
    assert last["job"] == by_loss["job"] == by_metric["job"]
    assert len(list(csv.DictReader(LEDGER.open(encoding="utf-8")))) == 1


def test_the_weights_are_those_of_the_chosen_checkpoint(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune.asking import checkpoint_choice

    monkeypatch.setattr(checkpoint_choice, "valid_loss", lambda checkpoint: float(checkpoint.step_number))
    record = trained(client, choose="best_valid_loss")
    assert record["chosen"]["step"] == 3
    first = min(client.fine_tuning.jobs.checkpoints.list(record["job"]), key=lambda one: one.step_number)
    contents = {client.files.content(file).content for file in first.result_files}  # type: ignore[attr-defined]
    assert {path.read_bytes() for path in Path("models/weights").iterdir()} == contents


def test_the_record_has_verdict_events_and_resolved_hyperparameters(client: openai.OpenAI) -> None:
    record = trained(client, n_epochs="auto")
    assert record["hyperparameters"] == {
        "n_epochs": 4,
        "batch_size": 8,
        "learning_rate_multiplier": 2.0,
        "learning_rate": 0.002,
        "weight_decay": 0.0,
        "warmup_ratio": 0.0,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_layers": 1,  # of two
        "lora_dropout": 0.0,
        "max_length": 1024,
        "gradient_checkpointing": False,
    }
    assert record["verdict"] in ("improving", "converged", "overfitting", "diverging", "cannot tell")
    assert record["verdict_words"].endswith(".")
    events = [json.loads(line) for line in Path("models/events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert events[0]["message"].startswith("Created fine-tuning job")
    assert events[-1]["message"] == "The job has successfully completed"


def test_training_continues_from_the_model_of_a_commit(client: openai.OpenAI) -> None:
    parent = trained(client)
    revision = commit()
    child = trained(client, **{"from": revision, "n_epochs": 1})
    assert child["lineage"] == [parent["model"]]
    assert child["base"] == "tiny"
    assert child["job"] != parent["job"]
    assert client.fine_tuning.jobs.retrieve(child["job"]).model == parent["model"]
    # It starts from the tuned weights, not from the base.
    with open("reports/training.csv", encoding="utf-8") as table:
        first_loss = float(next(csv.DictReader(table))["train_loss"])
    assert first_loss < parent["checkpoints"][0]["train_loss"]
    grandchild = trained(client, **{"from": commit(), "n_epochs": 1, "seed": 8})
    assert grandchild["lineage"] == [parent["model"], child["model"]]


@pytest.mark.parametrize("name", ["HEAD", "HEAD~0", "main", "@"])
def test_a_name_that_moves_is_refused(client: openai.OpenAI, name: str) -> None:
    """After the next commit it would be another model, and the same parameters would train again."""
    trained(client)
    commit()
    git("branch", "-M", "main")
    with pytest.raises(FinetuneError, match="which names another commit later"):
        trained(client, **{"from": name, "n_epochs": 1})


@pytest.mark.slow
def test_a_tag_is_a_start(client: openai.OpenAI) -> None:
    parent = trained(client)
    commit()
    git("tag", "v1.0")
    assert trained(client, **{"from": "v1.0", "n_epochs": 1})["lineage"] == [parent["model"]]


def test_a_revision_without_a_record_or_of_another_base_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(FinetuneError, match="Git finds no commit, branch or tag 'no-such-tag'"):
        trained(client, **{"from": "no-such-tag"})
    record = json.loads(MODEL.read_text(encoding="utf-8"))
    write_json(MODEL, {**record, "base": "another"})
    revision = commit()
    with pytest.raises(FinetuneError, match="has the base 'another', not 'tiny'"):
        trained(client, **{"from": revision})


@pytest.mark.slow
def test_without_metadata_the_suffix_holds_the_fingerprint(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nebius keeps no metadata; a clone without the note of this one still finds the job."""
    monkeypatch.setenv("NEBIUS_API_KEY", client.api_key)
    monkeypatch.setitem(PROFILES, "nebius", dataclasses.replace(PROFILES["nebius"], poll_seconds=(0.05, 0.2)))
    write_params(client, learning_rate_multiplier="auto", n_epochs=1, suffix="desk")
    values = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    YAML().dump({**values, "provider": {**values["provider"], "name": "nebius"}}, Path("params.yaml"))
    record = train.run(load_params())
    job = client.fine_tuning.jobs.retrieve(record["job"])
    assert job.metadata is None
    assert f":desk-{record['fingerprint'][:12]}:" in record["model"]
    shutil.rmtree(".finetune")
    assert train.run(load_params())["job"] == record["job"]


@pytest.fixture
def other_machine(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Another machine's engine, which knows no file and no job."""
    shutil.copytree(home / "bases", tmp_path / "home" / "bases")
    with monkeypatch.context() as patch:
        patch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
        with embedded() as address:
            yield address


@pytest.mark.slow
def test_another_machine_uploads_the_files_that_its_engine_lacks(
    client: openai.OpenAI, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(client, n_epochs=1, seed=11)
    record, weights = FILES.read_bytes(), (WEIGHTS / "adapter_model.safetensors").read_bytes()
    for file in json.loads(record).values():
        client.files.delete(file["id"])
    assert train.run(load_params())["job"] == first["job"]  # a job that exists needs no files

    monkeypatch.setenv("FINETUNE_ENGINE_KEY", other_machine.key)
    write_params(other_machine, n_epochs=1, seed=11)
    rows = (PREPARED / "train.jsonl").read_bytes()
    (PREPARED / "train.jsonl").write_bytes(rows + rows)
    with pytest.raises(FinetuneError, match=r"has another content now.*\n.*dvc repro upload"):
        train.run(load_params())
    (PREPARED / "train.jsonl").write_bytes(rows)
    second = train.run(load_params())
    assert second["fingerprint"] == first["fingerprint"]
    assert (WEIGHTS / "adapter_model.safetensors").read_bytes() == weights
    assert FILES.read_bytes() == record  # another machine's change of IDs would be one of Git
    assert train.run(load_params())["job"] == second["job"]
    monkeypatch.setenv("FINETUNE_ENGINE_KEY", client.api_key)


def test_what_another_account_has_paid_is_not_paid_again(
    client: openai.OpenAI, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, "nebius", dataclasses.replace(PROFILES["nebius"], poll_seconds=(0.05, 0.2)))
    for account, key in ((client, client.api_key), (other_machine, other_machine.key)):
        monkeypatch.setenv("NEBIUS_API_KEY", key)
        write_params(account, learning_rate_multiplier="auto", n_epochs=1, seed=12)
        values = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
        YAML().dump({**values, "provider": {**values["provider"], "name": "nebius"}}, Path("params.yaml"))
        if account is client:
            upload.run(load_params())
            first = train.run(load_params())
            commit()
    with pytest.raises(FinetuneError, match=f"This fine-tune exists: a commit has its job {first['job']}"):
        train.run(load_params())
    assert train.run(load_params(), again=True)["job"] != first["job"]


def test_a_large_file_is_sent_in_parts_and_continues_after_a_kill(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(PROFILES["local"], file_bytes=1000)
    monkeypatch.setitem(PROFILES, "local", small)
    monkeypatch.setattr(remote_files, "PART_BYTES", 500)
    write_params(client)
    content = (PREPARED / "train.jsonl").read_bytes()
    (PREPARED / "train.jsonl").write_bytes(content + content)  # another content, so another file
    shown: list[int] = []

    def killed_at_the_third(done: int, total: int, message: str) -> None:
        shown.append(done)
        if len(shown) == 3:
            raise KeyboardInterrupt

    with_progress(monkeypatch, killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        upload.run(load_params())
    note = json.loads(next(Path(".finetune").glob("upload-*.json")).read_text(encoding="utf-8"))
    assert len(note["parts"]) == 3
    record = upload.run(load_params())
    assert shown[3] == 2000  # the fourth part, not the first again
    found = client.files.retrieve(record["train"]["id"])
    assert client.files.content(found.id).content == content + content
    assert not list(Path(".finetune").glob("upload-*.json"))
    assert upload.run(load_params()) == record
    monkeypatch.setitem(PROFILES, "local", dataclasses.replace(small, uploads=False))
    (PREPARED / "train.jsonl").write_bytes(content * 3)
    with pytest.raises(FinetuneError, match=r"takes 1,000 at most\. Nothing was sent"):
        upload.run(load_params())
    (PREPARED / "train.jsonl").write_bytes(content)


def with_progress(monkeypatch: pytest.MonkeyPatch, show: Any) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr(upload, "progress_bar", lambda title: nullcontext(show))
