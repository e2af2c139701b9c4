"""The engine's SQLite database: transactions, queries, and the tables that a later version has added."""

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finetune.engine.home import private
from finetune.engine.schema import ADDED_COLUMNS, ADDED_INDEXES, JOB_METADATA, SCHEMA

MAX_IDLE = 16  # connections to the database that are kept open: opening takes longer than reading a page of a list


class Database:
    """A database with the tables of `schema.py`. Several processes and threads may use it at once."""

    def __init__(self, path: Path) -> None:
        self.database = path
        self.idle: deque[tuple[tuple[int, int], sqlite3.Connection]] = deque()  # each with its file's device and inode
        self.current = threading.local()  # its `db` is the connection of this thread's open transaction
        # Not opened if it is there: closing it would end the locks that SQLite holds for this process.
        with suppress(FileExistsError):
            os.close(private(str(path), os.O_RDWR | os.O_CREAT | os.O_EXCL))
        with self.transaction() as db:
            db.executescript(SCHEMA)
        with self.transaction() as db:
            self.add_what_is_new(db)

    def add_what_is_new(self, db: sqlite3.Connection) -> None:
        """Add what a database of an earlier version lacks."""
        for table, column, kind in ADDED_COLUMNS:
            if not db.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)).fetchone():
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        db.execute(ADDED_INDEXES)
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'job_metadata'").fetchone():
            for statement in JOB_METADATA:
                db.execute(statement)

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
