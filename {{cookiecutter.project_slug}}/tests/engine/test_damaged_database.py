"""A damaged engine.db is named and never replaced: it holds jobs and models."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import openai
import pytest

from finetune.core.errors import FinetuneError
from finetune.core.sections.provider import Provider
from finetune.engine.database_check import UnusableDatabaseError, check_database
from finetune.engine.store import Store
from finetune.provider.connect import connect


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    store = Store(tmp_path)
    for number in range(100):
        store.add_file(f"{number}.jsonl", "fine-tune", [b"{}\n"])
    with closing(sqlite3.connect(store.database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return tmp_path


def test_a_whole_database_is_used(home: Path) -> None:
    with connect(Provider(name="local")) as connection:
        assert len(list(connection.control.files.list())) == 100


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "page"])
def test_a_damaged_database_is_named_and_stays(damage: str, home: Path) -> None:
    path = home / "engine.db"
    content = path.read_bytes()
    page = content[:8192] + b"\xde" * 4096 * 3 + content[8192 + 4096 * 3 :]
    damaged = {"garbage": b"garbage" * 999, "empty": b"", "cut": content[: len(content) // 2], "page": page}[damage]
    path.write_bytes(damaged)
    with pytest.raises((FinetuneError, OSError)) as error, connect(Provider(name="local")):
        pass
    for words in ("engine.db is damaged", ".recover", "PRAGMA integrity_check", f"mv {path} {path}.damaged"):
        assert words in str(error.value)
    assert path.read_bytes() == damaged
    assert len(list((home / "files").iterdir())) == 100


def test_a_moved_database_is_made_again(home: Path) -> None:
    (home / "engine.db").rename(home / "engine.db.damaged")
    with connect(Provider(name="local")) as connection:
        assert not list(connection.control.files.list())


def test_a_database_of_a_newer_version_is_refused(home: Path) -> None:
    with closing(sqlite3.connect(home / "engine.db")) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(UnusableDatabaseError, match=r"newer version .* wrote .*engine.db .schema 7"):
        check_database(home)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_database_that_is_no_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(UnusableDatabaseError, match=r"engine\.db is no file.*mv "):
        check_database(tmp_path)


def test_a_locked_database_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_database = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: open_database(*a, **{**k, "timeout": 0}))
    with closing(open_database(home / "engine.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises((UnusableDatabaseError, FinetuneError), match=r"engine\.db: database is locked"),
            connect(Provider(name="local")),
        ):
            pass


def test_a_full_disk_is_told_once_and_without_a_traceback(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with connect(Provider(name="local")) as connection:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(openai.APIStatusError, match="cannot use its folder: No space left on device"):
            connection.client.files.create(file=("a.jsonl", b"{}\n"), purpose="fine-tune")
        monkeypatch.undo()
        assert len(list((home / "files").iterdir())) == 100
    assert "Traceback" not in capfd.readouterr().err
