"""Test what each request looks up on the disk: it must not grow with the number of bases or files."""

import os
from pathlib import Path

import pytest

from finetune.engine import bases
from finetune.engine.fingerprint import FILES, stamp_of
from finetune.engine.gguf_conversion import UNFINISHED
from finetune.engine.store import Store


def test_a_name_is_looked_up_without_reading_other_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for number in range(50):
        folder = tmp_path / "bases" / f"base{number}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    (tmp_path / "bases" / f"base50{UNFINISHED}").mkdir()
    looked_at: list[Path] = []
    has_config = bases.has_config

    def noted(folder: Path) -> bool:
        looked_at.append(folder)
        return has_config(folder)

    monkeypatch.setattr(bases, "has_config", noted)
    assert bases.known("base7", store)
    assert looked_at == [tmp_path / "bases" / "base7"]
    for other in ("base51", f"base50{UNFINISHED}", "..", "", "base7/", "BASE7"):
        assert not bases.known(other, store), other
    assert set(bases.installed(store)) >= {f"base{number}" for number in range(50)}


def test_a_stamp_has_the_files_of_a_model_and_changes_with_them(tmp_path: Path) -> None:
    names = ["config.json", "model.safetensors", "tokenizer.model", "merges.txt", "chat_template.jinja"]
    for name in [*names, "README.md", "notes.txt", "config.json.lock"]:
        (tmp_path / name).write_text(name)
    stamp = stamp_of(tmp_path)
    assert [name for name, *_ in stamp] == sorted(names)
    assert sorted(names) == sorted({path.name for pattern in FILES for path in tmp_path.glob(pattern)})
    os.utime(tmp_path / "config.json", ns=(1, 1))
    assert stamp_of(tmp_path) != stamp
    assert stamp_of(tmp_path / "missing") == ()
