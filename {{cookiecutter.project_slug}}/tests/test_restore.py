"""What an error says about the outputs that DVC deleted before a stage ran."""

import subprocess
from pathlib import Path

import pytest

from finetune.commands.pipeline import with_restore_command
from finetune.core.errors import FinetuneError
from finetune.project.restore import how_to_restore

PIPELINE = """\
stages:
  train:
    cmd: "true"
    outs: [models/weights]
    metrics: [{models/model.json: {cache: false}}]
"""
LOCK = "schema: '2.0'\nstages:\n  train:\n    cmd: 'true'\n    outs: [{path: models/weights, md5: MD5}]\n"


def git(*arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def _committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    Path("dvc.lock").write_text(LOCK.replace("MD5", "first"), encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "First")


def test_outputs_of_the_last_commit_come_from_git_and_the_cache() -> None:
    command = "git checkout models/model.json && dvc checkout train"
    assert how_to_restore("train") == f"Restore the former outputs of train with: {command}"


def test_outputs_of_a_run_that_no_commit_has_are_not_mixed_with_those_of_the_commit() -> None:
    Path("dvc.lock").write_text(LOCK.replace("MD5", "second"), encoding="utf-8")
    assert how_to_restore("train") == (
        "The former outputs of train come back when you undo your last change and run: dvc repro train"
    )


def test_nothing_is_said_in_the_workspace_of_an_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Path(".dvc/tmp/exps/standalone/tmp1")
    workspace.mkdir(parents=True)
    for file in ("dvc.yaml", "dvc.lock"):
        (workspace / file).write_text(Path(file).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(workspace)
    assert how_to_restore("train") is None


def test_nothing_is_said_where_nothing_is_missing_and_before_the_first_run() -> None:
    Path("models/weights").mkdir(parents=True)
    Path("models/model.json").write_text("{}", encoding="utf-8")
    assert how_to_restore("train") is None
    assert how_to_restore("upload") is None


@pytest.mark.parametrize("error", [FinetuneError("No key.", "Set one."), OSError(28, "No space left on device")])
def test_each_error_of_a_stage_ends_with_it(error: Exception) -> None:
    with pytest.raises(FinetuneError, match="No ") as raised, with_restore_command("train"):
        raise error
    assert str(raised.value).splitlines()[-1].startswith("  → Restore the former outputs of train with: ")


def test_ctrl_c_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), with_restore_command("train"):
        raise KeyboardInterrupt
    assert "Restore the former outputs of train with: " in capsys.readouterr().err
