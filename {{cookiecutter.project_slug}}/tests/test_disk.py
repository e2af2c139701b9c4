"""Files are written whole or not at all, and read as they were written."""

import errno
import os
from pathlib import Path

import pytest

from finetune.core import disk
from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home


def test_json_is_the_same_bytes_for_the_same_content(tmp_path: Path) -> None:
    disk.write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.json"
    disk.write_json(path, {"model": "first"})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FinetuneError, match=r"model\.json: No space left"):
        disk.write_json(path, {"model": "second"})
    assert "first" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_csv_is_read_as_texts_and_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert disk.read_csv(path) == []
    rows = [{"asked": 'a\r\nb, "c"', "n": "1"}, {"asked": "é" * 200_000, "n": ""}]
    disk.write_csv(path, ["asked", "n"], rows)
    assert disk.read_csv(path) == rows


def test_a_home_that_depends_on_the_working_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each workspace of `dvc exp run --temp` would have its own, and delete it with the models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", "home")
    with pytest.raises(FinetuneError, match="absolute path"):
        user_home()
    assert not Path("home").exists()
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    assert user_home() == tmp_path / "home"
