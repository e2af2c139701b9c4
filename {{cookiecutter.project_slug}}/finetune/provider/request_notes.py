"""Notes on requests that create something at a provider: written before the request is sent, and kept.

They lie in the user's folder, because a workspace of `dvc exp run --temp` and a clone must know of each other's.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from finetune.core.damage import read_bytes
from finetune.core.disk import parse_json, read_note, write_json
from finetune.core.errors import FinetuneError
from finetune.core.paths import NOTES, user_home
from finetune.core.records.requests import RequestNote


def note_path(identity: str, key: str) -> Path:
    """Return the path of the note on the request of this key, which is unique for a provider, to this provider."""
    return folder() / f"{hashlib.sha256(f'{identity} {key}'.encode()).hexdigest()[:40]}.json"


def folder() -> Path:
    return user_home() / "requests"


def read_request_note(identity: str, key: str) -> RequestNote | None:
    """Return the note on a request; None if there is none.

    A damaged note is one on a request of which nothing but the time is known. Notes of earlier versions lie in the
    project.
    """
    paths = (note_path(identity, key), NOTES / f"{key}.json")
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    written_at = path.stat().st_mtime
    found = read_note(path, RequestNote)
    note = cast("RequestNote", {"known": [], "facts": {}, **found})
    if not isinstance(found.get("asked_at"), (int, float)):
        note = {"asked_at": written_at, "known": [], "facts": {}}
        write_request_note(identity, key, note)
    elif "job" in found:
        note["id"] = found["job"]
    return note


def write_request_note(identity: str, key: str, note: RequestNote) -> None:
    write_json(note_path(identity, key), note)


def forget(identity: str, key: str) -> None:
    """Remove the note on a request of which it is certain that it had no effect."""
    for path in (note_path(identity, key), NOTES / f"{key}.json"):
        path.unlink(missing_ok=True)


def requests_in(note: RequestNote) -> list[Mapping[str, Any]]:
    """Return the requests that a note tells of, the oldest first. The last one may have no `id`: that is not known."""
    return [*note.get("earlier", []), note]


def without_unclear_request(path: Path, note: RequestNote) -> None:
    """Remove from a note the request without a known outcome. What earlier ones have made is known by it alone."""
    earlier = note.get("earlier", [])
    if not earlier:
        path.unlink(missing_ok=True)
        return
    last: RequestNote = {"asked_at": note["asked_at"], "known": [], "facts": earlier[-1]["facts"]}
    write_json(path, last | {"id": earlier[-1]["id"], "earlier": earlier[:-1]})


def all_notes() -> Iterator[tuple[Path, RequestNote]]:
    """Yield all notes of this user that can be read, with their paths; the others are left to those who need them."""
    for path in sorted(folder().glob("*.json")):
        with suppress(FinetuneError, OSError):
            found = parse_json(read_bytes(path), str(path), "", RequestNote)
            if "asked_at" in found:
                yield path, cast("RequestNote", {"known": [], "facts": {}, **found})
