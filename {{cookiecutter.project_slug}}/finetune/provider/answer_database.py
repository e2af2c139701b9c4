"""Open the database of kept answers. A damaged one is set aside, and what can be read of it is kept."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from finetune.core.damage import set_aside, warn_once
from finetune.core.errors import FinetuneError
from finetune.provider.locks import exclusive_lock

VERSION = 1  # of the schema, in SQLite's user_version; databases of earlier versions have 0 and the same tables
TABLES = {  # columns by table; `completions` is last, because an answer is kept only with all that is known of it
    "ends": ("key TEXT PRIMARY KEY", "cut INTEGER"),
    "cached": ("key TEXT PRIMARY KEY", "tokens INTEGER"),
    "answered": (
        "key TEXT PRIMARY KEY",
        "provider TEXT",
        "asked TEXT",
        "model TEXT",
        "fingerprint TEXT",
        "at INTEGER",
    ),
    "deployed": ("key TEXT PRIMARY KEY", "model TEXT"),
    "refusals": ("key TEXT PRIMARY KEY",),
    "renewed": ("key TEXT PRIMARY KEY", "times INTEGER"),
    "completions": ("key TEXT PRIMARY KEY", "answer TEXT"),
}
WITH_EACH_ANSWER = ("ends", "cached", "answered", "deployed")  # tables that have a row for each answer of today
SUFFIXES = ("-wal", "-shm", "-journal")  # of the files that SQLite keeps beside a database
MOST_ROWS_OF_A_PAGE = 100  # a row of this cache has at least the 64 digits of its key: 4,096 / 64, and some more


class DamagedError(Exception):
    """The database cannot be read, or lacks columns."""


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that a database is damaged: SQLITE_CORRUPT or SQLITE_NOTADB.

    A full disk, a lock and a missing permission are of the subclass OperationalError.
    """
    return type(error) is sqlite3.DatabaseError


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database, and create it if needed. A damaged one is set aside, and its readable rows are kept.

    Raises FinetuneError if a newer version wrote it, and sqlite3.Error where the disk is full or it is locked.
    """
    if path.exists() and not path.is_file():
        raise FinetuneError(f"{path} is no file, and must be one.", f"Move it away: mv {path} {path}.moved")
    try:
        return connected(path)
    except DamagedError as error:
        return rescued(path, str(error))


def connected(path: Path) -> sqlite3.Connection:
    """Connect to the database and create what it lacks. Raises DamagedError if it cannot be read."""
    is_new = not path.exists()
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.text_factory = as_text
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise FinetuneError(
                f"A newer version of this template wrote {path} (schema {version}; this one knows {VERSION}).",
                "Update this project with: cruft update -y. Or set FINETUNE_HOME to another folder.",
            )
        if is_new:  # one that exists keeps its mode: the folder may be shared on purpose
            path.chmod(0o600)
        db.execute("PRAGMA journal_mode=WAL")
        for table, columns in TABLES.items():
            db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)})")
            there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            if lacks := {column.split()[0] for column in columns} - there:
                raise DamagedError(f"its table {table} lacks {', '.join(sorted(lacks))}")
        if version < VERSION:
            db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise DamagedError(str(error)) from error
        raise
    return db


def as_text(content: bytes) -> str:
    """Return a text of the database. Bytes that are not UTF-8 make it invalid JSON, so that it is taken as damaged."""
    return content.decode("utf-8", "backslashreplace")


def rescued(path: Path, why: str) -> sqlite3.Connection:
    """Set a damaged database aside and return a new one with what can be read of it."""
    with exclusive_lock("rescue", str(path)):
        return whole_database(path) or renewed(path, why)


def whole_database(path: Path) -> sqlite3.Connection | None:
    """Connect to the database if it has no damage: another process has set the damaged one aside. None otherwise."""
    try:
        db = connected(path)
    except DamagedError:
        return None
    try:
        if db.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",):
            return db
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    db.close()
    return None


def renewed(path: Path, why: str) -> sqlite3.Connection:
    """Set a damaged database aside and return a new one with what can be read of it."""
    old = set_aside(path, SUFFIXES)
    db = connected(path)
    whole = {table: copy_rows(old, db, table) for table in TABLES}
    # An answer without what answered, or without the note that it was a refusal, would count as something else.
    drop = [f"key NOT IN (SELECT key FROM {table})" for table in WITH_EACH_ANSWER if not whole[table]]
    drop += ["TRUE"] if not whole["refusals"] else []
    if drop:
        db.execute(f"DELETE FROM completions WHERE {' OR '.join(drop)}")
    kept = db.execute("SELECT COUNT(*) FROM completions").fetchone()[0]
    warn_once(
        f"{path} is damaged ({why}). It is renamed to {old.name}; {kept:,} answers in it could be read and are kept."
        " The others are asked again."
    )
    return db


def copy_rows(old: Path, new: sqlite3.Connection, table: str) -> bool:
    """Copy the readable rows of a table into another database. Returns whether all of them were readable."""
    source = sqlite3.connect(old, timeout=30, isolation_level=None)
    source.text_factory = as_text
    try:
        source.execute("PRAGMA writable_schema = ON")  # lets SQLite read a file that was cut; nothing is written
        there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
        names = [column.split()[0] for column in TABLES[table] if column.split()[0] in there]
        if "key" not in names:
            return not there  # an earlier version did not have this table
        query = f"SELECT {', '.join(names)} FROM {table}"
        insert = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        new.execute("BEGIN IMMEDIATE")
        try:
            new.executemany(insert, source.execute(query))
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            new.executemany(insert, rows_one_by_one(source, query, old.stat().st_size))
            return False
        finally:
            new.execute("COMMIT")
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return False
    finally:
        source.close()
    return True


def rows_one_by_one(source: sqlite3.Connection, query: str, size: int) -> Iterator[tuple[object, ...]]:
    """Yield each row that can be found by its number, on pages that are not damaged."""
    for number in range(1, size // 4096 * MOST_ROWS_OF_A_PAGE + 1):
        try:
            row = source.execute(f"{query} WHERE rowid = ?", (number,)).fetchone()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            continue
        if row:
            yield row
