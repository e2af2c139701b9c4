"""Answers of earlier runs, kept on disk for all projects of this user."""

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from finetune.core.damage import warn_once
from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home
from finetune.core.records.answers import KeptAnswers
from finetune.provider.answer_database import is_damage, open_database, rescued
from finetune.provider.answer_parser import Answer

KEPT_FIELDS = {"text": None, "prompt_tokens": None, "completion_tokens": None, "seconds": None, "error": ""}  # defaults
P = ParamSpec("P")
R = TypeVar("R")
ONCE_MORE = "ON CONFLICT (key) DO UPDATE SET times = times + 1"


def cache_key(identity: str, request: Mapping[str, Any]) -> str:
    """Return the key of an answer: SHA-256 of who answers and of the whole request.

    Caches of earlier versions hold answers under these keys, so the derivation must not change.
    """
    return hashlib.sha256(json.dumps({"provider": identity, **request}, sort_keys=True).encode()).hexdigest()


def cache_path() -> Path:
    """Return the path of the cache. It holds answers of every provider, so the engine's state does not include it."""
    return user_home() / "answers.db"


def survives_damage(method: Callable[Concatenate["AnswerCache", P], R]) -> Callable[Concatenate["AnswerCache", P], R]:
    """Return a method that is run again, on what can be read, if the database turns out to be damaged."""

    @wraps(method)
    def run(cache: "AnswerCache", /, *arguments: P.args, **named: P.kwargs) -> R:
        db = cache.db
        try:
            return method(cache, *arguments, **named)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            cache.rescue(db, str(error))
        return method(cache, *arguments, **named)

    return run


class AnswerCache:
    """Answers by their keys in SQLite tables. Threads may share it.

    Further tables say which answers were cut or refused, how many tokens of the prompt the provider had cached, which
    model answered, and how often answers were removed to be asked again. Earlier versions, which may use the same file,
    read only the first ones.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.path = path
        self.db = open_database(path)

    def rescue(self, damaged: sqlite3.Connection, why: str) -> None:
        """Go on with what can be read of a damaged database, unless another thread has done so."""
        with self.lock:
            if self.db is damaged:
                damaged.close()
                self.db = rescued(self.path, why)

    @survives_damage
    def get(self, key: str) -> Answer | None:
        """Return the answer of this key, or None."""
        with self.lock:
            row = self.db.execute(
                "SELECT answer, cut, tokens, answered.model, fingerprint, deployed.model, refusals.key FROM completions"
                " LEFT JOIN ends USING (key) LEFT JOIN cached USING (key) LEFT JOIN answered USING (key)"
                " LEFT JOIN deployed USING (key) LEFT JOIN refusals USING (key) WHERE completions.key = ?",
                (key,),
            ).fetchone()
        if row is None:
            return None
        if (answer := answer_in(row)) is None:
            warn_once(f"{self.path} has answers that cannot be read. Their questions are asked again.")
        return answer

    @survives_damage
    def put(self, key: str, answer: Answer, provider: str, asked: str) -> None:
        """Keep an answer of a provider under this key; `asked` is the name by which its model was asked."""
        fields = asdict(answer)
        cut, cached, model, fingerprint, deployed, refused = (
            fields.pop(name) for name in ("cut", "cached_tokens", "model", "fingerprint", "deployed", "refused")
        )
        by = (key, provider, asked, model, fingerprint, time.time())
        with self.transaction():
            self.db.execute(
                "INSERT OR REPLACE INTO answered (key, provider, asked, model, fingerprint, at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                by,
            )
            self.db.execute("INSERT OR REPLACE INTO deployed (key, model) VALUES (?, ?)", (key, deployed))
            self.db.execute("DELETE FROM refusals WHERE key = ?", (key,))
            if refused:
                self.db.execute("INSERT INTO refusals (key) VALUES (?)", (key,))
            self.db.execute("INSERT OR REPLACE INTO cached (key, tokens) VALUES (?, ?)", (key, cached))
            self.db.execute("INSERT OR REPLACE INTO ends (key, cut) VALUES (?, ?)", (key, cut))
            self.db.execute("INSERT OR REPLACE INTO completions (key, answer) VALUES (?, ?)", (key, json.dumps(fields)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of the block or nothing: an answer without what answered would be taken for another model's."""
        with self.lock:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with suppress(sqlite3.Error):  # of a damaged database
                    self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    @survives_damage
    def forget(self, keys: Iterable[str]) -> None:
        """Remove the answers of these keys, which are asked again, and count how often this was done."""
        rows = [(key,) for key in keys]
        with self.transaction():
            self.db.executemany("DELETE FROM completions WHERE key = ?", rows)
            self.db.executemany(f"INSERT INTO renewed (key, times) VALUES (?, 1) {ONCE_MORE}", rows)

    @survives_damage
    def times_renewed(self, key: str) -> int:
        """Return how often the answer of this key was removed to be asked again."""
        with self.lock:
            row = self.db.execute("SELECT times FROM renewed WHERE key = ?", (key,)).fetchone()
        return row[0] if row and isinstance(row[0], int) else 0

    @survives_damage
    def alternating(
        self, provider: str, asked: str, seconds: float, by: Literal["fingerprint", "model"] = "fingerprint"
    ) -> list[str]:
        """Return a name's fingerprints or models if they alternate, else []: twice, one comes again within seconds."""
        with self.lock:
            rows = self.db.execute(
                f"SELECT {by}, at FROM completions JOIN answered USING (key)"
                f" WHERE provider = ? AND asked = ? AND {by} != '' AND at > 0 ORDER BY at",
                (provider, asked),
            ).fetchall()
        last_seen: dict[str, float] = {}
        returns, before = 0, ""
        for fingerprint, at in rows:
            returns += fingerprint != before and at - last_seen.get(fingerprint, float("-inf")) < seconds
            before, last_seen[fingerprint] = fingerprint, at
        return sorted(last_seen) if returns > 1 else []

    @survives_damage
    def groups(self) -> list[KeptAnswers]:
        """Return the numbers of answers by provider, name and model, the newest last."""
        with self.lock:
            rows = self.db.execute(
                "SELECT provider, asked, COALESCE(NULLIF(deployed.model, ''), answered.model) AS by, fingerprint,"
                " COUNT(*), CAST(MIN(at) AS INTEGER), CAST(MAX(at) AS INTEGER) FROM completions"
                " LEFT JOIN answered USING (key) LEFT JOIN deployed USING (key)"
                " GROUP BY provider, asked, by, fingerprint ORDER BY MAX(at)"
            ).fetchall()
        return [
            {
                "provider": provider or "",
                "asked": asked or "",
                "model": model or "",
                "fingerprint": fingerprint or "",
                "answers": count,
                "first": first,
                "last": last,
            }
            for provider, asked, model, fingerprint, count, first, last in rows
        ]

    @survives_damage
    def clear(self, asked: str | None) -> int:
        """Remove the answers to questions under a name, None: all answers; return their number.

        It is counted as by `forget`, so that a batch that had these answers is not used again.
        """
        where = "WHERE :asked IS NULL OR key IN (SELECT key FROM answered WHERE asked = :asked)"
        with self.transaction():
            self.db.execute(
                f"INSERT INTO renewed (key, times) SELECT key, 1 FROM completions {where} {ONCE_MORE}", {"asked": asked}
            )
            return self.db.execute(f"DELETE FROM completions {where}", {"asked": asked}).rowcount


def answer_in(row: Sequence[Any]) -> Answer | None:
    """Return the answer in a row of the query of `get`; None if the row is damaged.

    Fields of a newer version are left out.
    """
    content, cut, cached, model, fingerprint, deployed, refused = row
    try:
        fields = json.loads(content)
        tops = [[(token, logprob) for token, logprob in one] for one in fields.get("logprobs", [])]
    except (ValueError, TypeError, AttributeError):
        return None
    known = {name: fields.get(name, default) for name, default in KEPT_FIELDS.items()}
    answer = Answer(
        **known | {"logprobs": tops},
        cut=None if cut is None else bool(cut),
        cached_tokens=cached,
        refused=refused is not None,
        model=model or "",
        fingerprint=fingerprint or "",
        deployed=deployed or "",
    )
    return answer if is_whole(answer) else None


def is_whole(answer: Answer) -> bool:
    """Return whether all fields of an answer have values of their kinds."""
    texts = (answer.text, answer.error, answer.model, answer.fingerprint, answer.deployed)
    numbers = (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens, answer.seconds)
    return (
        all(isinstance(text, str) for text in texts)
        and all(number is None or isinstance(number, int | float) for number in numbers)
        and all(
            isinstance(token, str) and (logprob is None or isinstance(logprob, int | float))
            for tops in answer.logprobs
            for token, logprob in tops
        )
    )


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
        is_locked = "locked" in str(error)
        raise FinetuneError(
            f"Cannot keep the answers in {path}: {error}.",
            "Another process uses it. Run the same command again when that has ended."
            if is_locked
            else "Free some disk space or correct the permissions, then run the same command again.",
        ) from error
