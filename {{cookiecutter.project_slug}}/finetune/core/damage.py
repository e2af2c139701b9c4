"""Name what is damaged in a file that a stage wrote, with the command that restores it; set a damaged cache aside."""

import os
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from finetune.core.errors import FinetuneError
from finetune.core.paths import LEDGER, PARAMS

IN_DVC = ("reports/left_out.csv", "reports/doubtful.csv", "reports/rows.csv")  # other tables and records are in Git
NUMBERS = ("int_type", "int_from_float", "float_type", "bool_type")  # pydantic's names of wrong kinds of numbers


class MissingKeyError(FinetuneError, KeyError):
    """A record lacks a key. It is a KeyError too, so that page templates may ask for keys of later versions."""


class Record(dict[str, Any]):
    """An object of a record. Asked for a key that it lacks, it raises FinetuneError with the file's name.

    Records of earlier versions lack some keys, so a missing one is an error only where it is needed.
    """

    __slots__ = ("place", "remedy")
    place: str
    remedy: str

    def __missing__(self, key: str) -> Any:
        raise MissingKeyError(f"{self.place} lacks {key!r}.", self.remedy)


def record_of(values: dict[str, Any], place: str, remedy: str) -> Record:
    """Return values as a record that is at a place, such as a file's path."""
    found = Record(values)
    found.place, found.remedy = place, remedy
    return found


def how_to_restore(path: Path, made_by: str) -> str:
    """Return the commands that restore a file of the stage `made_by`: from Git or DVC's cache, or by the stage."""
    again = made_by.split(", then ")[-1]
    again = again if again.startswith("finetune ") else f"dvc repro -f -s {again}"
    in_git = path.parts[:1] in (("models",), ("reports",)) and path.suffix in (".json", ".csv", ".md")
    in_git = in_git and path.as_posix() not in IN_DVC
    former = f"git checkout {path}" if in_git else f"dvc checkout -f {path}"
    return f"Restore it with: {former}, or create it again with: {again}"


def remedy_for(path: Path, content: bytes, restore: str) -> str:
    """Return the commands that end a merge conflict in a file; `restore` if its content has no conflict.

    Git restores no file while its conflict is open.
    """
    if not conflict_line(content):
        return restore
    if path == LEDGER:
        return "Delete the lines of marks (<<<<<<<, =======, >>>>>>>), and keep the lines of both sides: each is a job."
    sides = f"git checkout --ours {path}, or the other with: git checkout --theirs {path}"
    lock = "" if path.name == "dvc.lock" else " Do the same with dvc.lock."
    return f"Keep this side with: {sides}.{lock} Then run: dvc repro"


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes. Raises FinetuneError for a folder or a device: reading some would never end."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise FinetuneError(f"{path} is {kind}, and must be a file.", f"Move it away: mv {path} {path}.moved")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot("read", path, error) from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a file. Raises FinetuneError as `open_file`, and where the disk cannot read it."""
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise cannot("read", path, error) from error


def missing(path: Path, remedy: str) -> FinetuneError:
    """Return the error for an output that is not there. Outside a project, no stage could create it."""
    if not PARAMS.exists():
        remedy = f"Run this in the project's folder: there is no {PARAMS} in {Path.cwd()}."
    return FinetuneError(f"{path} is missing.", remedy)


def cannot(do: str, path: Path, error: OSError) -> FinetuneError:
    """Return the error for a file that the system does not let be read or written."""
    return FinetuneError(
        f"Cannot {do} {path}: {error.strerror or error}.", "Correct its permissions, then run the same command again."
    )


def line_of(content: bytes, position: int) -> int:
    """Return the number of the line, from 1, that has the byte at a position."""
    return content.count(b"\n", 0, position) + 1


def conflict_line(content: bytes) -> int | None:
    """Return the first line that Git has written into a file for a conflict of a merge; None without any."""
    found = re.search(rb"^<{7} ", content, re.MULTILINE)
    return line_of(content, found.start()) if found else None


@cache
def checker(kind: Any) -> Any:
    """Return pydantic's checker of a type of records/."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def wrong_value(content: bytes, kind: Any) -> str | None:
    """Return which value of a record in JSON is not of its type, in words; None where all are.

    Keys may be missing, and one kind of number may stand for another: earlier versions wrote both. The value is not
    quoted: it may be personal data.
    """
    from pydantic import ValidationError

    try:
        checker(kind).validate_json(content, strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False):
            is_number = isinstance(problem["input"], int | float)
            if problem["type"] == "missing" or (problem["type"] in NUMBERS and is_number):
                continue
            keys = ".".join(map(str, problem["loc"]))
            message = problem["msg"]
            return f"{keys}: {message[0].lower()}{message[1:]}" if keys else f"{message[0].lower()}{message[1:]}"
    return None


@cache
def warn_once(message: str) -> None:
    """Print a warning on standard error, once in a process."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def set_aside(path: Path, others: Iterable[str] = ()) -> Path:
    """Rename a damaged file to `<name>.damaged-<n>` and return its new path; files with these suffixes go with it.

    Nothing is deleted: the file may hold answers that were paid.
    """
    number = 1
    while os.path.lexists(new := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    path.rename(new)
    for suffix in others:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(new.with_name(new.name + suffix))
    return new
