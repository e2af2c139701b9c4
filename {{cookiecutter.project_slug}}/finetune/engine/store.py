"""The engine's state in one folder per user: records in an SQLite database, and content in plain files."""

import errno
import hashlib
import json
import os
import shlex
import sqlite3
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from finetune.engine.client_text import encodable
from finetune.engine.digests import sha256_of
from finetune.engine.ids import new_id as new_id  # also for those who add rows
from finetune.engine.schema import ADDED_COLUMNS, ADDED_INDEXES, JOB_METADATA, JOBS, SCHEMA, FileRow, JobRow

MAX_IDLE = 16  # connections to the database that are kept open: opening takes longer than reading a page of a list
UNFINISHED = ("validating_files", "queued", "running")  # statuses of jobs that need a worker
# Errors of a machine that has no room: the next try may succeed.
TEMPORARY = (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


def default_home() -> Path:
    """Return the folder of `FINETUNE_HOME`, or the platform's data directory for this user."""
    return Path(os.environ.get("FINETUNE_HOME") or platformdirs.user_data_dir("finetune")).expanduser().resolve()


def shared_home_warning(home: Path) -> str | None:
    """Return what to tell the owner of a home whose mode gives rights to other users; None for a private home."""
    mode = stat.S_IMODE(home.stat().st_mode)
    if os.name != "posix" or not mode & 0o077:
        return None
    what = "change" if mode & 0o022 else "read"
    return (
        f"warning: other users may {what} the folder {home} (mode {mode:03o}). Its mode and those of its files were"
        f" kept; what is new in it is private.\n→ To make all of it private: chmod 700 {shlex.quote(str(home))}"
    )


def private(path: str, flags: int) -> int:
    """Open a file, as `open` does with this as its opener. If the file is new, only its owner can read it."""
    return os.open(path, flags, 0o600)


class Store:
    """The records and files below one folder. Several processes may use it at once.

    What it creates, only its owner can read. What exists keeps its mode: others may share the folder on purpose.
    With `any_base`, requests may name each folder of this machine and each model of the hub as a base.
    """

    def __init__(self, home: Path, any_base: bool = False) -> None:
        self.home, self.any_base = home, any_base
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("files", "uploads", "jobs", "models", "bases", "batches"):
            (home / name).mkdir(exist_ok=True, mode=0o700)
        # Not opened if it is there: closing it would end the locks that SQLite holds for this process.
        with suppress(FileExistsError):
            os.close(private(str(self.database), os.O_RDWR | os.O_CREAT | os.O_EXCL))
        self.idle: deque[tuple[tuple[int, int], sqlite3.Connection]] = deque()  # each with its file's device and inode
        self.current = threading.local()  # its `db` is the connection of this thread's open transaction
        with self.transaction() as db:
            db.executescript(SCHEMA)
        with self.transaction() as db:
            for table, column, kind in ADDED_COLUMNS:
                if not db.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)).fetchone():
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            db.execute(ADDED_INDEXES)
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'job_metadata'").fetchone():
                for statement in JOB_METADATA:
                    db.execute(statement)

    @property
    def database(self) -> Path:
        return self.home / "engine.db"

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a connection whose statements are committed together, or not at all.

        Inside another transaction of this thread, they are part of that one, and so are `rows` and `execute`.
        """
        if self.is_in_transaction():
            yield self.current.db
            return
        self.current.db = db = sqlite3.connect(self.database, timeout=30, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:
                db.execute("COMMIT")
        finally:
            self.current.db = None
            db.close()  # rolls an open transaction back

    def is_in_transaction(self) -> bool:
        return getattr(self.current, "db", None) is not None

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query as dictionaries. Annotate the result with a row type of `schema.py`."""
        if self.is_in_transaction():
            return [dict(row) for row in self.current.db.execute(query, values)]
        with self.reader() as db:
            return [dict(row) for row in db.execute(query, values)]

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Take an idle connection or open one, and keep it for the next query if nothing fails."""
        stat = self.database.stat()
        file = stat.st_dev, stat.st_ino  # another one when a backup was put in its place
        db = self.idle_connection(file) or sqlite3.connect(self.database, timeout=30, check_same_thread=False)
        db.row_factory = sqlite3.Row
        keep = False
        try:
            yield db
            keep = len(self.idle) < MAX_IDLE
        finally:
            self.idle.append((file, db)) if keep else db.close()

    def idle_connection(self, file: tuple[int, int]) -> sqlite3.Connection | None:
        with suppress(IndexError):
            while True:
                opened, db = self.idle.pop()
                if opened == file:
                    return db
                db.close()
        return None

    def close(self) -> None:
        """Close the idle connections."""
        self.idle_connection((0, 0))

    def row(self, query: str, *values: object) -> Any:
        """Return the first row of a query, or None. Annotate the result like that of `rows`."""
        return next(iter(self.rows(query, *values)), None)

    def execute(self, query: str, *values: object) -> int:
        """Run one statement. Returns the number of rows that it changed."""
        with self.transaction() as db:
            return db.execute(query, values).rowcount

    # Files: the content is files/<id>, and is complete on the disk before the row is added.

    def file(self, file_id: str) -> FileRow | None:
        """Return a file; None if it does not exist or has expired."""
        row = self.kept_file(file_id)
        return row if row and (row["expires_at"] is None or row["expires_at"] > time.time()) else None

    def kept_file(self, file_id: str) -> FileRow | None:
        """Return a file, also an expired one: until the jobs and batches that read it have ended, it is kept."""
        row: FileRow | None = self.row("SELECT * FROM files WHERE id = ?", file_id)
        return row

    def add_file(
        self,
        filename: str,
        purpose: str,
        content: Iterable[bytes],
        check: Callable[[Path], None] | None = None,
        expires_after: int | None = None,
    ) -> str:
        """Store the chunks of `content` as a new file and return its ID. If `check` raises, nothing is stored.

        With `expires_after`, the file expires that many seconds after its creation.
        """
        file_id, digest = new_id("file-"), hashlib.sha256()
        path = self.file_path(file_id)
        try:
            with open(path, "wb", opener=private) as out:
                for chunk in content:
                    digest.update(chunk)
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            if check:
                check(path)
            now = int(time.time())
            expires_at = None if expires_after is None else now + expires_after
            with self.transaction() as db:
                db.execute(
                    "INSERT INTO files (id, created_at, filename, purpose, bytes, expires_at)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (file_id, now, filename, purpose, path.stat().st_size, expires_at),
                )
                db.execute("INSERT INTO digests VALUES (?, ?)", (self.digest_key(path), digest.hexdigest()))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return file_id

    def delete_file(self, file_id: str) -> None:
        with self.transaction() as db:
            self.forget_file(db, file_id)
        self.file_path(file_id).unlink(missing_ok=True)

    def take_back_file(self, file_id: str) -> None:
        """Delete a file whose request failed after it was stored. No list keeps its place."""
        self.delete_file(file_id)
        self.execute("DELETE FROM places WHERE id = ?", file_id)

    def delete_expired_files(self) -> None:
        """Delete the expired files, but for those that an unfinished job or batch reads."""
        expired = self.rows(
            "SELECT id FROM files WHERE expires_at <= ?"
            " AND id NOT IN (SELECT training_file FROM jobs WHERE finished_at IS NULL)"
            " AND id NOT IN (SELECT COALESCE(validation_file, '') FROM jobs WHERE finished_at IS NULL)"
            " AND id NOT IN (SELECT input_file FROM batches"
            " WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling'))",
            time.time(),
        )
        for row in expired:
            self.delete_file(row["id"])

    def forget_file(self, db: sqlite3.Connection, file_id: str) -> None:
        """Delete a file's rows in a transaction."""
        db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        db.execute("DELETE FROM digests WHERE path = ?", (self.digest_key(self.file_path(file_id)),))

    def file_path(self, file_id: str) -> Path:
        return self.home / "files" / file_id

    # Digests: what a file held when it was written. A disk, a backup or a person may have changed it since.

    def digest_key(self, path: Path) -> str:
        return path.relative_to(self.home).as_posix()

    def is_damaged(self, path: Path) -> bool:
        """Return whether a file is missing, or is not what was written. One without a digest only has to be there."""
        row = self.row("SELECT sha256 FROM digests WHERE path = ?", self.digest_key(path))
        try:
            return not path.is_file() or (row is not None and row["sha256"] != sha256_of(path))
        except FileNotFoundError:  # deleted in the meantime
            return True

    # Jobs

    def job(self, job_id: str) -> JobRow | None:
        row: JobRow | None = self.row(f"{JOBS} WHERE id = ?", job_id)
        return row

    def has_unfinished(self) -> bool:
        """Return whether a job needs a worker."""
        return self.row(f"SELECT 1 FROM jobs WHERE status IN {UNFINISHED} LIMIT 1") is not None

    def unfinished(self) -> list[JobRow]:
        """Return the jobs that need a worker: first the running one, then the others in the order of creation.

        Those whose worker died since their last checkpoint come after all others, so that they block none of them.
        """
        return self.rows(f"{JOBS} WHERE status IN {UNFINISHED} ORDER BY starts, status != 'running', n")

    def job_folder(self, job_id: str) -> Path:
        folder = self.home / "jobs" / job_id
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    def set_job_status(
        self, job_id: str, status: str, from_statuses: Sequence[str] = UNFINISHED, **columns: object
    ) -> bool:
        """Set a job's status and other columns if its status is one of `from_statuses`. Returns whether it was set.

        The condition keeps a worker from overwriting a cancel or a pause that was requested in the meantime.
        """
        return self.set_status("jobs", job_id, from_statuses, {"status": status, **columns})

    def set_status(self, table: str, row_id: str, from_statuses: Sequence[str], columns: Mapping[str, object]) -> bool:
        """Set columns of a row if its status is one of `from_statuses`. Returns whether they were set."""
        changed = self.execute(
            f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in columns)}"
            f" WHERE id = ? AND status IN ({', '.join('?' * len(from_statuses))})",
            *columns.values(),
            row_id,
            *from_statuses,
        )
        return changed == 1

    def add_event(
        self,
        job_id: str,
        message: str,
        level: str = "info",
        data: Mapping[str, object] | None = None,
        step: int | None = None,
        created_at: int | None = None,
    ) -> None:
        """Add an event to a job. With `data`, it is an event of type `metrics`. `created_at` is now by default."""
        message = encodable(message)
        self.execute(
            "INSERT INTO events (id, job, created_at, level, type, message, data, step)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            new_id("ftevent-"),
            job_id,
            created_at or int(time.time()),
            level,
            "metrics" if data else "message",
            message,
            json.dumps(data or {}, sort_keys=True),
            step,
        )

    def end_job(self, job_id: str, status: str, code: str, message: str, param: str | None = None) -> None:
        """End a job that has no model. The reason becomes OpenAI's `error` object and an event."""
        error = json.dumps({"code": code, "message": encodable(message), "param": param}, sort_keys=True)
        if self.set_job_status(job_id, status, error=error, finished_at=int(time.time())):
            self.add_event(job_id, message, level="error")
