"""The engine's state in one folder per user: records in an SQLite database, and content in plain files."""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from finetune.engine.client_text import encodable
from finetune.engine.database import Database
from finetune.engine.digests import sha256_of
from finetune.engine.home import private
from finetune.engine.ids import new_id
from finetune.engine.schema import JOBS, FileRow, JobRow

UNFINISHED = ("validating_files", "queued", "running")  # statuses of jobs that need a worker


class Store(Database):
    """The records and files below one folder. Several processes may use it at once.

    What it creates, only its owner can read. What exists keeps its mode: others may share the folder on purpose.
    With `any_base`, requests may name each folder of this machine and each model of the hub as a base.
    """

    def __init__(self, home: Path, any_base: bool = False) -> None:
        self.home, self.any_base = home, any_base
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("files", "uploads", "jobs", "models", "bases", "batches"):
            (home / name).mkdir(exist_ok=True, mode=0o700)
        super().__init__(home / "engine.db")

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
