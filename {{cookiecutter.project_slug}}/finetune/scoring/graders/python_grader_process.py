"""The process of a python grader: it reads the source as a line of JSON, then answers each row with its grade.

python_grader.py starts it with a minimal environment. It imports nothing of the project.
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
    """Answer whether the source has a grade(), then each row with its score or with the error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # The source's own input and output must not mix with the lines of JSON.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def send(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    start = json.loads(requests.readline())
    limit(start["memory"], start["seconds"])
    try:
        grade = grade_of(start["source"])
    except BaseException as error:  # the source may raise anything, SystemExit too
        send({"error": described(error)})
        return
    send({})
    for line in requests:
        row = json.loads(line)
        try:
            send({"score": checked(grade(row["sample"], row["item"]))})
        except BaseException as error:
            send({"error": described(error)})


def limit(memory: int, seconds: int) -> None:
    """Limit address space and processor time, if the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS cannot limit the address space
            continue


def grade_of(source: str) -> Callable[[Any, Any], Any]:
    """Return the source's grade(). Raises what the source raises, or TypeError without a grade() of two arguments."""
    module = ModuleType("grader")
    sys.modules["grader"] = module  # dataclasses look up their module there
    exec(compile(source, "source", "exec", dont_inherit=True), module.__dict__)
    grade = getattr(module, "grade", None)
    if not callable(grade):
        raise TypeError("there is no function grade(sample, item)")
    inspect.signature(grade).bind({}, {})
    return grade  # type: ignore[no-any-return]


def checked(value: Any) -> float:
    """Return a grade as a finite number. Raises ValueError for anything else."""
    score = math.nan if isinstance(value, (str, bytes)) else float(value)
    if not math.isfinite(score):
        raise ValueError(f"grade() returned {value!r:.50}, which is not a finite number")
    return score


def described(error: BaseException) -> str:
    """Return an exception as one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


if __name__ == "__main__":
    main()
