"""What a command writes outside of `dvc repro` is an output of DVC too."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.core.errors import FinetuneError
from finetune.project.record_outputs import record_outputs

PIPELINE = """\
stages:
  export:
    cmd: mkdir exports && echo by-the-stage > exports/model
    deps: [weights]
    outs: [exports]
"""


def dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    Path("weights").write_text("1", encoding="utf-8")
    dvc("init", "--no-scm", "-q")
    dvc("repro", "-q")


def test_the_next_run_of_dvc_keeps_it_and_a_checkout_restores_it() -> None:
    model = Path("exports/model")
    model.unlink()
    model.write_text("by-the-command", encoding="utf-8")
    assert record_outputs("export")
    dvc("repro", "-q")
    assert model.read_text(encoding="utf-8") == "by-the-command"
    model.unlink()
    dvc("checkout", "-q")
    assert model.read_text(encoding="utf-8") == "by-the-command"


def test_without_dvc_there_is_nothing_to_record() -> None:
    shutil.rmtree(".dvc")
    assert not record_outputs("export")


def test_what_dvc_cannot_record_is_said_with_the_command_that_does() -> None:
    Path("dvc.yaml").write_text("stages: 5", encoding="utf-8")
    with pytest.raises(FinetuneError) as caught:
        record_outputs("export")
    assert "dvc commit -f export" in str(caught.value.remedy)
