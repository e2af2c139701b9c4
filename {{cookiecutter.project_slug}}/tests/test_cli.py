"""The command line: every command has help, help is fast, and an error is a message without a traceback."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from finetune.cli import PANELS, app
from finetune.commands.check import Method as CheckMethod
from finetune.core.errors import FinetuneError
from finetune.core.sections.train import Method
from finetune.terminal.tables import print_table

ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-m", "finetune", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def test_every_command_and_option_has_help() -> None:
    def walk(command: object, path: str) -> None:
        for name, sub in getattr(command, "commands", {}).items():
            assert (sub.help or "").strip(), f"{path} {name} has no help"
            for parameter in sub.params:
                assert getattr(parameter, "help", ""), f"{path} {name} {parameter.name} has no help"
            walk(sub, f"{path} {name}")

    walk(get_command(app), "finetune")
    help_text = CliRunner().invoke(app, ["--help"]).output
    for stage in ("prepare", "validate", "upload", "train", "baseline", "tuned", "evaluate", "report"):
        assert stage in help_text


def test_each_command_is_in_a_panel_with_one_short_line() -> None:
    top = get_command(app)
    for name, command in getattr(top, "commands", {}).items():
        first = str(command.help).split("\n\n")[0]
        assert len(first) <= 80, f"{name}: {first}"
        assert command.rich_help_panel in {*PANELS, "At the provider"}, name
    words = CliRunner().invoke(app, ["--help"]).output
    assert all(panel in words for panel in PANELS if panel != "Engine" or find_spec("finetune.engine"))


def test_check_offers_the_methods_that_can_be_trained() -> None:
    assert [method.value for method in CheckMethod] == list(get_args(Method))


def test_the_shell_completes_commands() -> None:
    environment = {"_FINETUNE_COMPLETE": "complete_bash", "COMP_WORDS": "finetune jo", "COMP_CWORD": "1"}
    done = CliRunner().invoke(app, prog_name="finetune", env=environment)
    assert done.output.split() == ["jobs"]


def test_a_table_has_the_width_of_columns_and_cuts_no_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head, row = ["", "floors.majority", "tuned"], ["accuracy", "0.183 (0.132 to 0.249)", "0.870 (0.811 to 0.912)"]
    for columns in (40, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_table(head, [row])
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= columns
        assert "…" not in shown
    assert len(shown.splitlines()) == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['finetune', '--help']\n"
        "try: runpy.run_module('finetune', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print([m for m in ('torch', 'pandas', 'pydantic', 'transformers', 'openai', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_error_is_a_message_and_exit_status_1(tmp_path: Path) -> None:
    done = run("prepare", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no params.yaml")
    assert "Traceback" not in done.stderr
    assert run("nonsense").returncode == 2


@pytest.mark.parametrize("command", ["show", "report", "doubtful"])  # which read records before params.yaml
def test_outside_of_a_project_no_stage_is_named(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, FinetuneError)
    assert f"there is no params.yaml in {tmp_path}" in error.remedy


OTHER_STAGES = ("validate", "upload", "baseline", "tuned", "evaluate")


@pytest.mark.parametrize(
    "stage", ["train", "report", *(pytest.param(stage, marks=pytest.mark.slow) for stage in OTHER_STAGES)]
)
def test_the_error_of_a_stage_names_what_must_run_or_be_set_first(tmp_path: Path, stage: str) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    done = run(stage, cwd=tmp_path, OPENAI_API_KEY="none", NEBIUS_API_KEY="none", FINETUNE_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert "dvc repro" in done.stderr or "base_url" in done.stderr or "engine" in done.stderr
