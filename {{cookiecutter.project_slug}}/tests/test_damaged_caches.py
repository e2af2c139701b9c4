"""Caches that are damaged, locked, full or not writable: what is lost is asked again, and nothing is deleted."""

import errno
import gzip
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from finetune.core import cache_folders
from finetune.core.cache_folders import writable_cache
from finetune.core.damage import warn_once
from finetune.core.disk import read_note
from finetune.core.env_file import env_file_values
from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home
from finetune.data import token_counts
from finetune.provider.answer_cache import AnswerCache, open_answer_cache
from finetune.provider.answer_parser import Answer

ANSWER = Answer("yes", 7, 1, 0.5, [[("yes", -0.1), ("no", None)]], model="m", fingerprint="f", cut=False)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    warn_once.cache_clear()
    writable_cache.cache_clear()
    token_counts.encoder.cache_clear()


def fill(count: int = 300) -> Path:
    """Keep answers, and return the path of the database, without files beside it."""
    with open_answer_cache() as cache:
        for number in range(count):
            cache.put(f"{number:064x}", ANSWER, "openai", "m")
        cache.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return user_home() / "answers.db"


def kept(path: Path) -> int:
    with open_answer_cache() as cache:
        return sum(cache.get(f"{number:064x}") == ANSWER for number in range(300))


def damage_page(path: Path, number: int) -> None:
    with open(path, "r+b") as file:
        file.seek((number - 1) * 4096)
        file.write(b"\xde\xad" * 2048)


@pytest.mark.parametrize("content", [b"garbage " * 2000, b"\x00" * 5000, b"<<<<<<< HEAD\n", b"SQLite format 3\x00cut"])
def test_a_damaged_database_of_answers_is_set_aside(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(3)
    path.write_bytes(content)
    assert kept(path) == 0
    assert (path.parent / "answers.db.damaged-1").read_bytes() == content
    warning = capsys.readouterr().err
    assert "answers.db is damaged" in warning
    assert "answers.db.damaged-1" in warning
    path.write_bytes(content)
    warn_once.cache_clear()
    assert kept(path) == 0
    assert (path.parent / "answers.db.damaged-2").exists()


def test_an_empty_database_of_answers_is_a_new_one() -> None:
    path = fill(3)
    path.write_bytes(b"")
    assert kept(path) == 0


def test_answers_on_whole_pages_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """A page of answers is damaged: the answers on the others are paid, and are not asked again."""
    path = fill()
    content = path.read_bytes()
    pages = [n for n in range(2, len(content) // 4096 + 1) if content[(n - 1) * 4096 :][:4096].count(b'"logprobs"') > 5]
    damage_page(path, pages[3])
    assert 200 < kept(path) < 300
    assert "answers in it could be read and are kept" in capsys.readouterr().err
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_no_page_that_is_damaged_makes_another_answer_or_a_traceback(tmp_path: Path) -> None:
    whole = fill().read_bytes()
    for number in range(1, len(whole) // 4096 + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "answers.db"
        path.write_bytes(whole)
        damage_page(path, number)
        cache = AnswerCache(path)
        found = [cache.get(f"{n:064x}") for n in range(300)]
        assert all(answer in (None, ANSWER) for answer in found), number
        cache.put("f" * 64, ANSWER, "openai", "m")
        assert cache.get("f" * 64) == ANSWER
        cache.groups()
        cache.alternating("openai", "m", 60)
        cache.db.close()


def test_a_database_that_was_cut_keeps_what_is_left() -> None:
    path = fill()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 4096 * 3 - 100])
    assert kept(path) > 0


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "5",
        None,
        json.dumps({"text": None}),
        json.dumps({"prompt_tokens": 3}),
        json.dumps({"text": "yes", "prompt_tokens": "many"}),
        json.dumps({"text": "yes", "logprobs": {"tokens": ["yes"]}}),
        json.dumps({"text": "yes", "logprobs": [[["yes", -0.1, 5]]]}),
        json.dumps({"text": "yes", "logprobs": [[[5, "x"]]]}),
        json.dumps({"text": "yes", "logprobs": None}),
        b"\xff\xfe",
    ],
)
def test_a_row_that_is_no_answer_is_asked_again(content: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(2)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE completions SET answer = ? WHERE key = ?", (content, f"{0:064x}"))
    assert kept(path) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert not list(path.parent.glob("*.damaged-*"))


def test_a_row_of_another_version_is_read() -> None:
    path = fill(1)
    with closing(sqlite3.connect(path)) as db, db:
        fields = {"text": "yes", "logprobs": [], "reasoning": "of a newer version"}
        db.execute("UPDATE completions SET answer = ?", (json.dumps(fields),))
        db.execute("UPDATE answered SET at = NULL, model = NULL")
        db.execute("ALTER TABLE answered ADD COLUMN region TEXT")
    with open_answer_cache() as cache:
        found = cache.get(f"{0:064x}")
        assert found is not None
        assert (found.text, found.prompt_tokens, found.model) == ("yes", None, "")
        cache.put("k", ANSWER, "openai", "m")
        assert cache.alternating("openai", "m", 60) == []
        assert cache.groups()


def test_a_database_without_a_column_is_read_into_a_new_one() -> None:
    path = fill(5)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE answered DROP COLUMN at")
    assert kept(path) == 5
    assert (path.parent / "answers.db.damaged-1").exists()


def test_a_database_of_a_newer_version_is_refused() -> None:
    path = fill(1)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(FinetuneError, match=r"newer version .*answers\.db \(schema 99; this one knows 1\)"):
        kept(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_database_that_is_no_file_is_named(kind: str) -> None:
    path = user_home() / "answers.db"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(FinetuneError, match=r"answers\.db is no file.*\n.*mv "):
        kept(path)


def test_a_locked_database_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(1)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0}))
    with closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with open_answer_cache() as cache, pytest.raises(sqlite3.OperationalError):
            cache.put("k", ANSWER, "openai", "m")
        locked = pytest.raises(FinetuneError, match=r"answers\.db: database is locked.\n.*Another process")
        with locked, open_answer_cache() as cache:
            cache.put("k", ANSWER, "openai", "m")


def test_a_full_disk_is_named_and_what_was_kept_stays() -> None:
    path = fill(3)
    full = pytest.raises(FinetuneError, match=r"answers\.db: database or disk is full.\n.*Free some")
    with full, open_answer_cache() as cache:
        cache.db.execute(f"PRAGMA max_page_count = {path.stat().st_size // 4096}")
        for number in range(1000, 2000):
            cache.put(f"{number:064x}", ANSWER, "openai", "m")
    assert kept(path) == 3


@pytest.mark.parametrize("home", ["a file", "/dev/null/x", "/proc/finetune"])
def test_a_home_that_cannot_be_made_is_named(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "file" if home == "a file" else Path(home)
    if home == "a file":
        folder.write_text("x")
    monkeypatch.setenv("FINETUNE_HOME", str(folder))
    with pytest.raises(FinetuneError, match=rf"{folder} .*cannot be used.*\n.*Set FINETUNE_HOME"):
        user_home()


def test_a_home_on_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(FinetuneError, match="No space left"):
        user_home()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"<<<<<<< HEAD\n{}\n"])
def test_a_damaged_note_is_set_aside(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "uploaded.json"
    assert read_note(path) == {}
    path.write_bytes(content)
    assert read_note(path) == {}
    assert (tmp_path / "uploaded.json.damaged-1").read_bytes() == content
    assert "uploaded.json" in capsys.readouterr().err


# The vocabulary of tiktoken


def vocabulary() -> bytes:
    found = token_counts.vocabulary_of_wheel("o200k_base")
    assert found
    return found


@pytest.mark.parametrize("content", [b"", b"garbage", b"x" * 3_613_922, "folder"])
def test_a_damaged_vocabulary_is_replaced_without_the_network(
    content: bytes | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    token_counts.fill_cache("o200k_base")
    [file] = (tmp_path / "cache").iterdir()
    file.unlink()
    file.write_bytes(content) if isinstance(content, bytes) else file.mkdir()
    monkeypatch.setattr("tiktoken.load.read_file", lambda *_: pytest.fail("the network was asked"))
    assert token_counts.encoder("o200k_base")("a parcel")
    assert Path(os.environ["TIKTOKEN_CACHE_DIR"], file.name).read_bytes() == vocabulary()


@pytest.mark.parametrize("place", ["a file", "/dev/null/x", "/proc/nothing"])
def test_a_cache_that_cannot_be_written_is_in_a_temporary_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A home that is read-only was blamed on the data file."""
    if place == "a file":
        place = str(tmp_path / "file" / "cache")
        (tmp_path / "file").write_text("x")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", place)
    assert token_counts.encoder("o200k_base")("a parcel")
    assert os.environ["TIKTOKEN_CACHE_DIR"].startswith(str(tmp_path))
    assert capsys.readouterr().err.count(f"the cache {place} cannot be written") == 1
    # The next command finds what this one has written.
    writable_cache.cache_clear()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", place)
    monkeypatch.setattr(gzip, "decompress", lambda _: vocabulary)
    assert writable_cache(Path(place)).parent == tmp_path / f"finetune-cache-{os.getuid()}"


def test_a_read_only_cache_that_has_the_vocabulary_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    token_counts.fill_cache("o200k_base")
    monkeypatch.setattr(cache_folders, "why_not_writable", lambda *_: "Read-only file system")
    token_counts.fill_cache("o200k_base")
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path)


def test_an_env_file_in_another_encoding_is_named_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_bytes("OPENAI_API_KEY=sk-secret".encode("utf-16"))
    with pytest.raises(FinetuneError, match=r"\.env is not in UTF-8") as error:
        env_file_values()
    assert "secret" not in str(error.value)
