"""The process of a python grader: it loads the source, then grades each row in another child process.

python_grader.py starts it with a minimal environment, in namespaces where the system has them. It talks in lines of
JSON. On Linux, the source and the answers that it grades cannot reach the files, the keys and the processes of the
user, and a row's child cannot reach this process or another row.
"""

import inspect
import json
import math
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import ModuleType
from typing import Any

from finetune.scoring.graders.confinement import allow_files, confine, end_after, limit

CAN_FORK = sys.platform == "linux"  # a child of a process with macOS' frameworks may crash
LONGEST = 4_096  # bytes of a child's answer
LOOK_SECONDS = 0.05  # between looks whether a child that says nothing has ended

GradeFunction = Callable[[Any, Any], Any]
Answer = dict[str, Any]


def main() -> None:
    """Answer whether the source has a grade(), then each row with its score or with the error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # The source's own input and output must not mix with the lines of JSON.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def send(answer: Answer) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    start = json.loads(requests.readline())
    sys.path[:] = [path for path in sys.path if path]  # no import from the folder that rows write to
    try:
        limit(start["memory"], start["cpu_seconds"])
        if CAN_FORK:
            confine(Path(start["project"]), Path.cwd())
        grade = grade_of(start["source"])
        if CAN_FORK and start["example"]:
            warm_up(grade, start["example"], start["row_seconds"], start["row_cpu_seconds"])
    except BaseException as error:  # the source may raise anything, SystemExit too
        send({"error": described(error)})
        return
    send({"forks": CAN_FORK})
    helpers, private = children(), (requests.fileno(), answers.fileno())
    for line in requests:
        row = json.loads(line)
        if CAN_FORK:
            send(grade_in_child(grade, {**row, "cpu_seconds": start["row_cpu_seconds"]}, helpers, private))
        else:
            send(graded(grade, row))


def grade_of(source: str) -> GradeFunction:
    """Return the source's grade(). Raises what the source raises, or TypeError without a grade() of two arguments."""
    module = ModuleType("grader")
    sys.modules["grader"] = module  # dataclasses look up their module there
    exec(compile(source, "source", "exec", dont_inherit=True), module.__dict__)
    grade = getattr(module, "grade", None)
    if not callable(grade):
        raise TypeError("there is no function grade(sample, item)")
    inspect.signature(grade).bind({}, {})
    return grade  # type: ignore[no-any-return]


def warm_up(grade: GradeFunction, example: Mapping[str, Any], seconds: float, cpu_seconds: int) -> None:
    """Call grade() with an expected answer, so that what it loads at its first call is loaded once for all rows."""

    def stop(*_: object) -> None:
        raise TimeoutError

    timers = ((signal.ITIMER_REAL, signal.SIGALRM, seconds), (signal.ITIMER_PROF, signal.SIGPROF, cpu_seconds))
    for timer, number, most in timers:
        signal.signal(number, stop)
        signal.setitimer(timer, most)
    try:
        graded(grade, example)
    except TimeoutError:  # between the end of grade() and the next line
        return
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)


def grade_in_child(grade: GradeFunction, row: Mapping[str, Any], helpers: set[int], private: tuple[int, int]) -> Answer:
    """Grade a row in a child, which ends with all that it started; `private` are the files that it must not have.

    The child's answer begins with a number drawn for the row, so that text written to its files is no score.
    """
    token = secrets.token_hex(16)
    folder = mkdtemp(dir=".")
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            for file in (readable, *private):
                os.close(file)
            os.chdir(folder)
            end_after(row["cpu_seconds"])
            allow_files(["/"], [".", os.devnull])
            os.write(writable, (token + json.dumps(graded(grade, row))).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writable)
    try:
        text = received(readable, child, row["seconds"])
        too_long = not text and killed_by(child) == signal.SIGXCPU
    finally:
        os.close(readable)
        kill_all_but(helpers, child)
        rmtree(folder, ignore_errors=True)
    if text is None:
        return {"error": f"no answer within {row['seconds']:.3g} s"}
    if too_long:
        return {"error": f"no answer within {row['cpu_seconds']} s of computing"}
    if not text:
        return {"error": "the process ended"}
    if not text.startswith(token.encode()):
        return {"error": "something other than grade() wrote the result"}
    answer: Answer = json.loads(text[len(token) :])
    return answer


def received(readable: int, child: int, seconds: float) -> bytes | None:
    """Return a child's line; b"" if it ended without one, None if the time is over.

    The end of the child counts, not the end of the pipe: what it started may hold the pipe open.
    """
    end = time.monotonic() + seconds
    text, ended, open_files = b"", False, [readable]
    while b"\n" not in text and len(text) < LONGEST:
        wait = 0 if ended else max(0, min(LOOK_SECONDS, end - time.monotonic()))
        ready, _, _ = select.select(open_files, [], [], wait)
        if ready:
            block = os.read(readable, LONGEST)
            text += block
            open_files = [readable] if block else []
        elif ended:
            return b""
        elif time.monotonic() >= end:
            return None
        else:
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return text


def killed_by(child: int) -> int | None:
    """Return the signal that ended a child, if one did; the child stays to be waited for."""
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended.si_status if ended and ended.si_code != os.CLD_EXITED else None


def children() -> set[int]:
    """Return the children of this process; nothing where the system does not list them."""
    try:
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()))
    except OSError:
        return set()


def kill_all_but(helpers: set[int], child: int) -> None:
    """Kill a child and all that it started, also in other sessions: as their parents end, they become our children."""
    found = {child}
    while found:
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        for process in found:
            with suppress(ChildProcessError):
                os.waitpid(process, 0)
        found = children() - helpers


def graded(grade: GradeFunction, row: Mapping[str, Any]) -> Answer:
    """Return the score of a row, or the error."""
    try:
        return {"score": checked(grade(row["sample"], row["item"]))}
    except BaseException as error:  # the source may raise anything, SystemExit too
        return {"error": described(error)}


def checked(value: Any) -> float:
    """Return a grade as a finite number. Raises ValueError for anything else."""
    score = math.nan if isinstance(value, (str, bytes)) else float(value)
    if not math.isfinite(score):
        raise ValueError(f"grade() returned {value!r:.50}, which is not a finite number")
    return score


def described(error: BaseException) -> str:
    """Return an exception as one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
