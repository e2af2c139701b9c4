"""Run python graders in a separate process: isolated where the system can, with limits of time and memory.

The source is part of the project, like its other code. The answers that it grades are not, and a source may run them:
`isolation` and `confinement` keep them from the user's keys, files, processes and network.
"""

import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from finetune.core.errors import FinetuneError
from finetune.scoring.graders.isolation import isolating

START_SECONDS = 60.0  # for the imports of a source, and the expected answer
# A grade must not depend on how busy the computer is: the time that a row computes is what is short.
ROW_CPU_SECONDS = 5
ROW_SECONDS = 30.0
ALL_SECONDS = 300.0  # for all rows of one model
GRACE_SECONDS = 5.0  # more, for a process that watches the time of its rows itself
MEMORY = 2 * 2**30  # bytes of address space, as at OpenAI
PROJECT = Path(__file__).parents[3]
PROGRAM = (
    "import sys; sys.path[0] = sys.argv[1]; from finetune.scoring.graders.python_grader_process import main; main()"
)

Grade = float | str  # a score, or why there is none
Ask = Callable[[Mapping[str, Any], float], dict[str, Any]]


def grades(
    name: str, source: str, rows: Sequence[Mapping[str, Any]], example: Mapping[str, Any] | None = None
) -> list[Grade]:
    """Return what grade() returns for each row's `sample` and `item`. The source is loaded once.

    A row that blocks or ends its process gets an error, and does not change the next row. `example` is a row with
    the expected answer: grade() is called with it first, where rows are graded in children of the process.
    """
    found: list[Grade] = []
    end = time.monotonic() + ALL_SECONDS
    while len(found) < len(rows) and time.monotonic() < end:
        with started(name, source, example) as ask:
            for row in rows[len(found) :]:
                if (seconds := min(ROW_SECONDS, end - time.monotonic())) <= 0:
                    break
                answer = ask({**row, "seconds": seconds}, seconds)
                found.append(answer["error"] if "error" in answer else answer["score"])
                if answer.get("lost"):
                    break
    late = f"not graded: the limit for all rows is {ALL_SECONDS:g} s"
    return found + [late] * (len(rows) - len(found))


@contextmanager
def started(name: str, source: str, example: Mapping[str, Any] | None = None) -> Iterator[Ask]:
    """Start a process with the source, and yield the function that asks it; it and its children end with the block.

    Raises FinetuneError naming the grader if the source has no grade() that can be called.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = new_process(Path(folder).resolve())
        try:
            ask = ask_through(process)
            row = {"row_seconds": min(ROW_SECONDS, ALL_SECONDS), "row_cpu_seconds": ROW_CPU_SECONDS}
            limits = {"memory": MEMORY, "cpu_seconds": math.ceil(ALL_SECONDS), **row}
            start = {"source": source, "project": str(PROJECT), "example": example, **limits}
            answer = ask(start, START_SECONDS)
            if answer.get("lost") and example:  # the example may have ended it
                stop(process)
                process = new_process(Path(folder).resolve())
                ask = ask_through(process)
                answer = ask({**start, "example": None}, START_SECONDS)
            if "error" in answer:
                raise FinetuneError(
                    f"evaluate.graders.{name}: the source fails: {answer['error']}.",
                    "It must define grade(sample, item), which returns a number.",
                )
            grace = GRACE_SECONDS if answer["forks"] else 0.0
            yield lambda row, seconds: ask(row, seconds + grace)
        finally:
            stop(process)


def new_process(folder: Path) -> "subprocess.Popen[bytes]":
    """Start the process of a grader in a folder, isolated where the system can."""
    # Our environment has the API key, so only what Python needs to start is passed. One thread and a fixed seed, so
    # that a grade is the same each time.
    environment = {key: os.environ[key] for key in ("SYSTEMROOT", "LD_LIBRARY_PATH") if key in os.environ}
    environment |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*isolating(folder), sys.executable, "-s", "-B", "-c", PROGRAM, str(PROJECT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def ask_through(process: "subprocess.Popen[bytes]") -> Ask:
    """Return the function that sends an object to a process and waits for its answer."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin
    assert stdout
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=read_lines, args=(stdout, lines), daemon=True).start()

    def ask(thing: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer; `lost` is true if the process cannot answer any more."""
        try:
            stdin.write(json.dumps(thing).encode() + b"\n")
            stdin.flush()
            line = lines.get(timeout=seconds)
        except queue.Empty:
            return {"error": f"no answer within {seconds:.3g} s", "lost": True}
        except OSError:
            line = b""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended", "lost": True}
        return answer

    return ask


def read_lines(stdout: IO[bytes], lines: "queue.Queue[bytes]") -> None:
    """Put every line of a process into a queue, and an empty one at its end."""
    with stdout:
        for line in stdout:
            lines.put(line)
    lines.put(b"")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it started, also in other sessions."""
    import psutil

    with suppress(psutil.Error):
        for one in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                one.kill()
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()
