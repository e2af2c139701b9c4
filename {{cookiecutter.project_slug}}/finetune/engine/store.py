"""What the engine remembers: one folder per user, with SQLite for the records and plain files for the bytes."""

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, filename TEXT, purpose TEXT, bytes INTEGER);
CREATE TABLE IF NOT EXISTS jobs (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, finished_at INTEGER, status TEXT, model TEXT,
    suffix TEXT, seed INTEGER, training_file TEXT, validation_file TEXT, asked TEXT, resolved TEXT, metadata TEXT,
    threads INTEGER, dtype TEXT, starts INTEGER DEFAULT 0, fine_tuned_model TEXT, trained_tokens INTEGER,
    result_file TEXT, error TEXT);
CREATE TABLE IF NOT EXISTS parents (job TEXT PRIMARY KEY, base TEXT);
CREATE TABLE IF NOT EXISTS events (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, job TEXT, created_at INTEGER, level TEXT, type TEXT, message TEXT,
    data TEXT, step INTEGER);
CREATE TABLE IF NOT EXISTS steps (job TEXT, step INTEGER, data TEXT, PRIMARY KEY (job, step));
CREATE TABLE IF NOT EXISTS checkpoints (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, job TEXT, created_at INTEGER, step INTEGER, model TEXT, metrics TEXT,
    files TEXT, UNIQUE (job, step));
CREATE TABLE IF NOT EXISTS models (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, job TEXT, base TEXT, dtype TEXT, folder TEXT);
CREATE TABLE IF NOT EXISTS uploads (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, filename TEXT, purpose TEXT, bytes INTEGER, status TEXT);
CREATE TABLE IF NOT EXISTS parts (n INTEGER PRIMARY KEY, id TEXT UNIQUE, upload TEXT, created_at INTEGER);
CREATE TABLE IF NOT EXISTS batches (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE, created_at INTEGER, status TEXT, input_file TEXT, metadata TEXT, model TEXT,
    total INTEGER DEFAULT 0, completed INTEGER DEFAULT 0, failed INTEGER DEFAULT 0, usage TEXT, errors TEXT,
    output_file TEXT, error_file TEXT, in_progress_at INTEGER, finalizing_at INTEGER, completed_at INTEGER,
    failed_at INTEGER, cancelling_at INTEGER, cancelled_at INTEGER);
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value REAL);
"""
# A job's `model` is what was asked for; its `base` is another where it goes on from a fine-tuned model.
JOBS = "SELECT jobs.*, COALESCE(parents.base, model) AS base FROM jobs LEFT JOIN parents ON parents.job = jobs.id"
UNFINISHED = ("validating_files", "queued", "running")  # what wants work: neither ended nor paused

Row = dict[str, Any]


def default_home() -> Path:
    """The folder of `FINETUNE_HOME`, else the platform's data directory for this user."""
    return Path(os.environ.get("FINETUNE_HOME") or platformdirs.user_data_dir("finetune")).expanduser().resolve()


def new_id(prefix: str) -> str:
    """An identifier in OpenAI's manner: `file-…`, `ftjob-…`."""
    return prefix + secrets.token_hex(12)


class Store:
    """The records and files below one folder, readable by its owner alone; safe from several processes at once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        for name in ("files", "uploads", "jobs", "models", "bases", "batches"):
            (home / name).mkdir(exist_ok=True)
        with self.transaction() as db:
            db.executescript(SCHEMA)
        self.database.chmod(0o600)

    @property
    def database(self) -> Path:
        return self.home / "engine.db"

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection whose statements are kept together or not at all."""
        db = sqlite3.connect(self.database, timeout=30, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:
                db.execute("COMMIT")
        finally:
            db.close()  # an open transaction is rolled back

    def rows(self, query: str, *values: object) -> list[Row]:
        """The rows of a query, oldest statement of the database first, as dictionaries."""
        db = sqlite3.connect(self.database, timeout=30)
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(query, values)]
        finally:
            db.close()

    def row(self, query: str, *values: object) -> Row | None:
        """The first row of a query, or None."""
        return next(iter(self.rows(query, *values)), None)

    def execute(self, query: str, *values: object) -> int:
        """Run one statement; the number of rows that it changed."""
        with self.transaction() as db:
            return db.execute(query, values).rowcount

    # Files: the bytes lie in files/<id>, written whole before the row that names them.

    def add_file(
        self, filename: str, purpose: str, content: Iterable[bytes], check: Callable[[Path], None] | None = None
    ) -> str:
        """Keep the pieces of `content` under a new file ID; nothing stays of a file that `check` raises an error on."""
        file_id = new_id("file-")
        path = self.file_path(file_id)
        try:
            with open(path, "wb") as out:
                out.writelines(content)
                out.flush()
                os.fsync(out.fileno())
            if check:
                check(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.execute(
            "INSERT INTO files (id, created_at, filename, purpose, bytes) VALUES (?, ?, ?, ?, ?)",
            file_id,
            int(time.time()),
            filename,
            purpose,
            path.stat().st_size,
        )
        return file_id

    def delete_file(self, file_id: str) -> None:
        self.execute("DELETE FROM files WHERE id = ?", file_id)
        self.file_path(file_id).unlink(missing_ok=True)

    def file_path(self, file_id: str) -> Path:
        return self.home / "files" / file_id

    # Jobs

    def job(self, job_id: str) -> Row | None:
        return self.row(f"{JOBS} WHERE id = ?", job_id)

    def unfinished(self) -> list[Row]:
        """The jobs that still want work: the one that was begun, then first come first."""
        return self.rows(f"{JOBS} WHERE status IN {UNFINISHED} ORDER BY status != 'running', n")

    def job_folder(self, job_id: str) -> Path:
        folder = self.home / "jobs" / job_id
        folder.mkdir(exist_ok=True)
        return folder

    def move_job(self, job_id: str, status: str, of: Sequence[str] = UNFINISHED, **values: object) -> bool:
        """Set a status and other columns if the job's status is one `of` these, so that a cancel or a pause meanwhile
        wins; whether it was set."""
        columns = "".join(f", {name} = ?" for name in values)
        changed = self.execute(
            f"UPDATE jobs SET status = ?{columns} WHERE id = ? AND status IN ({', '.join('?' * len(of))})",
            status,
            *values.values(),
            job_id,
            *of,
        )
        return changed == 1

    def add_event(
        self,
        job_id: str,
        message: str,
        level: str = "info",
        data: Row | None = None,
        step: int | None = None,
    ) -> None:
        """Tell the job's followers something; with `data`, it is an event of type `metrics`."""
        self.execute(
            "INSERT INTO events (id, job, created_at, level, type, message, data, step)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            new_id("ftevent-"),
            job_id,
            int(time.time()),
            level,
            "metrics" if data else "message",
            message,
            json.dumps(data or {}, sort_keys=True),
            step,
        )

    def end_job(self, job_id: str, status: str, code: str, message: str, param: str | None = None) -> None:
        """End a job without a model, with the reason in OpenAI's `error` object."""
        error = json.dumps({"code": code, "message": message, "param": param}, sort_keys=True)
        if self.move_job(job_id, status, error=error, finished_at=int(time.time())):
            self.add_event(job_id, message, level="error")
