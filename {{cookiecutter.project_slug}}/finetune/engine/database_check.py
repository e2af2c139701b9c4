"""Refuse a database that is damaged or of a newer version. It holds jobs and models, so it is never replaced."""

import shlex
import sqlite3
from pathlib import Path

VERSION = 1  # of the schema, in SQLite's user_version; databases of earlier versions have 0 and tables that are read


class UnusableDatabaseError(OSError):
    """The engine's database cannot be used. The message says what is lost, and how to go on."""


def check_database(home: Path) -> None:
    """Raise UnusableDatabaseError if the database in this folder is damaged, or if a newer version wrote it.

    A missing one is made by the store. An empty one beside models is damaged: SQLite would take it for a new one.
    """
    path = home / "engine.db"
    if not path.exists():
        return
    if not path.is_file():
        raise UnusableDatabaseError(f"{path} is no file, and must be one. Move it away: mv {path} {path}.moved")
    if path.stat().st_size == 0:
        if any(next((home / name).glob("*"), None) for name in ("models", "files", "jobs")):
            raise damaged(path, "it is empty")
        return
    try:
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise UnusableDatabaseError(
                    f"A newer version of this template wrote {path} (schema {version}; this one knows {VERSION})."
                    " Update this project with: cruft update -y. Or set FINETUNE_HOME to another folder."
                )
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise damaged(path, " ".join(found.split()))
            if version < VERSION:
                db.execute(f"PRAGMA user_version = {VERSION}")
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        remedy = (
            "Another process uses it." if "locked" in str(error) else "Correct the permissions, or free some space."
        )
        raise UnusableDatabaseError(f"Cannot use {path}: {error}. {remedy}") from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, why: str) -> UnusableDatabaseError:
    """Return the error for a damaged database, with the commands that save what can be read."""
    old, saved = (shlex.quote(f"{path}{suffix}") for suffix in (".damaged", ".recovered"))
    place = shlex.quote(str(path))
    return UnusableDatabaseError(
        f"{path} is damaged ({why}). It lists the engine's files, jobs and models; their contents beside it are whole,"
        " but without this list they cannot be found. Nothing was changed."
        f"\n  → Save what can be read: sqlite3 {place} .recover | sqlite3 {saved} && mv {place} {old} && rm -f"
        f" {place}-wal {place}-shm && mv {saved} {place}"
        f"\n  → Or start without the former jobs and models, which are trained again when they are needed:"
        f" mv {place} {old}"
        f"\n  → See what is damaged: sqlite3 {place} 'PRAGMA integrity_check'"
    )
