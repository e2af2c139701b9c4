"""What a model answered, and the answers of former runs, kept on disk."""

import hashlib
import json
import math
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.paths import user_home

Tops = list[tuple[str, float | None]]  # each token as its bytes, one letter (of Latin-1) for each


@dataclass(frozen=True)
class Answer:
    """One answer: its text, what it took, and per token the chosen one and then its alternatives, where asked for.

    `error` says why there is none: the provider refused this request for good.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    logprobs: list[Tops] = field(default_factory=list)
    error: str = ""


def answer_of(body: Mapping[str, Any], seconds: float | None) -> Answer:
    """The answer in a completion, of chat or of text, as the API gives it."""
    choices = body.get("choices") or []
    if not choices:
        return Answer("", seconds=seconds, error="an answer without choices")
    choice, usage = choices[0], body.get("usage") or {}
    message = choice.get("message") or {}
    text = message.get("content") or message.get("refusal") or choice.get("text") or ""
    told = choice.get("logprobs") or {}
    return Answer(
        text,
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        seconds,
        tops_of_chat(told) if "content" in told else tops_of_text(told),
    )


def tops_of_chat(told: Mapping[str, Any]) -> list[Tops]:
    return [
        [pair(top["token"], top["logprob"], top.get("bytes")) for top in (one, *(one.get("top_logprobs") or ()))]
        for one in told["content"] or []
    ]


def tops_of_text(told: Mapping[str, Any]) -> list[Tops]:
    """The same from the older shape, of completions."""
    tokens, values, tops = (told.get(key) or [] for key in ("tokens", "token_logprobs", "top_logprobs"))
    return [
        [pair(token, value), *(pair(*top) for top in (others or {}).items())]
        for token, value, others in zip(tokens, values, tops or [{}] * len(tokens), strict=False)
    ]


def pair(token: str, logprob: float | None, raw: list[int] | None = None) -> tuple[str, float | None]:
    """A token by its bytes, which tell the pieces of a letter apart, and its log-probability; None for no number."""
    value = float("nan") if logprob is None else float(logprob)
    content = bytes(raw) if raw else token.encode("utf-8", "replace")
    return content.decode("latin-1"), round(value, 4) if math.isfinite(value) else None


def key_of(identity: str, request: Mapping[str, Any]) -> str:
    """What identifies a question: who is asked, and all that is sent."""
    return hashlib.sha256(json.dumps({"provider": identity, **request}, sort_keys=True).encode()).hexdigest()


def answers_path() -> Path:
    """Beside the engine's state, but no part of it: answers of hosted models are kept here too."""
    return user_home() / "answers.db"


class Kept:
    """Answers of former runs by their keys, shared by all projects of this user."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS completions (key TEXT PRIMARY KEY, answer TEXT)")

    def get(self, key: str) -> Answer | None:
        with self.lock:
            row = self.db.execute("SELECT answer FROM completions WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        fields = json.loads(row[0])
        fields["logprobs"] = [[(token, logprob) for token, logprob in tops] for tops in fields["logprobs"]]
        return Answer(**fields)

    def put(self, key: str, answer: Answer) -> None:
        with self.lock:
            self.db.execute("INSERT OR REPLACE INTO completions VALUES (?, ?)", (key, json.dumps(asdict(answer))))


@contextmanager
def kept_answers() -> Iterator[Kept]:
    """The answers on disk. Raises FinetuneError where they cannot be kept."""
    path = answers_path()
    try:
        kept = Kept(path)
        try:
            yield kept
        finally:
            kept.db.close()
    except sqlite3.Error as error:
        raise FinetuneError(
            f"Cannot keep the answers in {path}: {error}.",
            "Make room or mend the permissions, then run the same command again.",
        ) from error
