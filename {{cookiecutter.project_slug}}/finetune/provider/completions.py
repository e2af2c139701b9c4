"""Many answers from one model: asked side by side, kept on disk, given back in order."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, cast

from finetune.errors import FinetuneError
from finetune.params import Evaluate
from finetune.paths import user_home
from finetune.provider.connect import Connection

Messages = Sequence[dict[str, str]]


def answers_path() -> Path:
    """Beside the engine's state, but no part of it: answers of hosted models are kept here too."""
    return user_home() / "answers.db"


class Answers:
    """Answers of former runs by provider, model and request, shared by all projects of this user."""

    def __init__(self) -> None:
        path = answers_path()
        self.lock = threading.Lock()
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT)")

    def get(self, key: str) -> str | None:
        with self.lock:
            row = self.db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, key: str, answer: str) -> None:
        with self.lock:
            self.db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))

    def close(self) -> None:
        self.db.close()


def answer_all(
    connection: Connection,
    model: str,
    prompts: Sequence[Messages | str],
    settings: Evaluate,
    seed: int,
    progress: Callable[[int, int, str], None],
    stop: str | None = None,
) -> list[str]:
    """The model's answer to each prompt, in their order: chat for messages, up to `stop` for texts to complete.

    What was answered before is not asked again, so a killed run goes on where it was. The first request that fails for
    good ends the run with its error; answers that came before it are kept.
    """
    request: dict[str, Any] = {
        "model": model,
        "temperature": settings.temperature,
        "seed": seed,
        "max_tokens" if stop is not None else connection.profile.max_tokens_name: settings.max_tokens,
    }
    if stop is not None:
        request |= {"stop": stop}
    try:
        return ask_side_by_side(connection, request, prompts, settings.concurrency, progress)
    except sqlite3.Error as error:
        raise FinetuneError(
            f"Cannot keep the answers in {answers_path()}: {error}.",
            "Make room or mend the permissions, then run the same command again.",
        ) from error


def ask_side_by_side(
    connection: Connection,
    request: dict[str, Any],
    prompts: Sequence[Messages | str],
    concurrency: int,
    progress: Callable[[int, int, str], None],
) -> list[str]:
    """The answers in the order of the prompts; each is kept as soon as it is there."""
    answers = Answers()

    def ask(prompt: Messages | str) -> str:
        asked = {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
        identity = {"provider": connection.identity, **request, **asked}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        kept = answers.get(key)
        if kept is None:
            if isinstance(prompt, str):
                kept = connection.client.completions.create(**request, prompt=prompt).choices[0].text
            else:
                completion = connection.client.chat.completions.create(**request, messages=cast("Any", list(prompt)))
                kept = completion.choices[0].message.content or ""
            answers.put(key, kept)
        return kept

    with ThreadPoolExecutor(concurrency) as pool:
        futures = [pool.submit(ask, prompt) for prompt in prompts]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress(done, len(prompts), "answers")
        finally:
            pool.shutdown(cancel_futures=True)
            answers.close()
    return [future.result() for future in futures]
