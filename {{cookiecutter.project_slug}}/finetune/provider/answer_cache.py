"""Answers of earlier runs, kept on disk for all projects of this user."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home
from finetune.provider.answer_parser import Answer


def cache_key(identity: str, request: Mapping[str, Any]) -> str:
    """Return the key of an answer: SHA-256 of who answers and of the whole request.

    Caches of earlier versions hold answers under these keys, so the derivation must not change.
    """
    return hashlib.sha256(json.dumps({"provider": identity, **request}, sort_keys=True).encode()).hexdigest()


def cache_path() -> Path:
    """Return the path of the cache. It holds answers of every provider, so the engine's state does not include it."""
    return user_home() / "answers.db"


class AnswerCache:
    """Answers by their keys in SQLite tables. Threads may share it.

    Further tables say which answers were cut, and how many tokens of the prompt the provider had cached. Earlier
    versions, which may use the same file, read only the first ones.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS completions (key TEXT PRIMARY KEY, answer TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS ends (key TEXT PRIMARY KEY, cut INTEGER)")
        self.db.execute("CREATE TABLE IF NOT EXISTS cached (key TEXT PRIMARY KEY, tokens INTEGER)")

    def get(self, key: str) -> Answer | None:
        """Return the answer of this key, or None."""
        with self.lock:
            row = self.db.execute(
                "SELECT answer, cut, tokens FROM completions LEFT JOIN ends USING (key) LEFT JOIN cached USING (key)"
                " WHERE key = ?",
                (key,),
            ).fetchone()
        if row is None:
            return None
        fields = json.loads(row[0])
        fields["logprobs"] = [[(token, logprob) for token, logprob in tops] for tops in fields["logprobs"]]
        return Answer(**fields, cut=None if row[1] is None else bool(row[1]), cached_tokens=row[2])

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer under this key."""
        fields = asdict(answer)
        cut, cached = fields.pop("cut"), fields.pop("cached_tokens")
        with self.lock:
            self.db.execute("INSERT OR REPLACE INTO cached VALUES (?, ?)", (key, cached))
            self.db.execute("INSERT OR REPLACE INTO ends VALUES (?, ?)", (key, cut))
            self.db.execute("INSERT OR REPLACE INTO completions VALUES (?, ?)", (key, json.dumps(fields)))


@contextmanager
def open_answer_cache() -> Iterator[AnswerCache]:
    """Open the cache for the block. Raises FinetuneError where it cannot be read or written."""
    path = cache_path()
    try:
        cache = AnswerCache(path)
        try:
            yield cache
        finally:
            cache.db.close()
    except sqlite3.Error as error:
        raise FinetuneError(
            f"Cannot keep the answers in {path}: {error}.",
            "Free some disk space or correct the permissions, then run the same command again.",
        ) from error
