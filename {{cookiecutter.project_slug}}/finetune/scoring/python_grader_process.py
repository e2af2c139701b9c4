"""The process in which a python grader runs: the source comes in as a line of JSON, then a row and its grade in turn.

graders.py starts it, with no environment but its own; it imports nothing of the project.
"""

import inspect
import json
import math
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def main() -> None:
    """Say whether the source has a grade(), then answer each row with its score or with what went wrong."""
    asks, tells = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What the source prints or reads must not get between the lines of JSON.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def tell(answer: dict[str, Any]) -> None:
        tells.write(json.dumps(answer).encode() + b"\n")
        tells.flush()

    start = json.loads(asks.readline())
    limit(start["memory"], start["seconds"])
    try:
        grade = grade_of(start["source"])
    except BaseException as error:  # the source may raise anything, SystemExit too
        tell({"error": described(error)})
        return
    tell({})
    for line in asks:
        row = json.loads(line)
        try:
            tell({"score": checked(grade(row["sample"], row["item"]))})
        except BaseException as error:
            tell({"error": described(error)})


def limit(memory: int, seconds: int) -> None:
    """Bound the address space and the processor time, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS has no limit of the address space
            continue


def grade_of(source: str) -> Callable[[Any, Any], Any]:
    """The source's grade(); raises what the source raises, or TypeError without a grade() of two arguments."""
    module = ModuleType("grader")
    sys.modules["grader"] = module  # dataclasses look themselves up there
    exec(compile(source, "source", "exec", dont_inherit=True), module.__dict__)
    grade = getattr(module, "grade", None)
    if not callable(grade):
        raise TypeError("it has no function grade(sample, item)")
    inspect.signature(grade).bind({}, {})
    return grade  # type: ignore[no-any-return]


def checked(value: Any) -> float:
    """A grade as a number from 0 to 1; raises ValueError for anything else."""
    score = math.nan if isinstance(value, (str, bytes)) else float(value)
    if not 0 <= score <= 1:
        raise ValueError(f"grade() gave {value!r:.50}, which is no number from 0 to 1")
    return score


def described(error: BaseException) -> str:
    """An exception in one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


if __name__ == "__main__":
    main()
