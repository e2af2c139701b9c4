"""Run python graders in a separate process: without our environment, and with limits of time and memory."""

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

START_SECONDS = 30.0  # for the imports of a source
ROW_SECONDS = 5.0
ALL_SECONDS = 300.0  # for all rows of one model
MEMORY = 2 * 2**30  # bytes of address space, as at OpenAI

Grade = float | str  # a score, or why there is none
Ask = Callable[[Mapping[str, Any], float], dict[str, Any]]


def grades(name: str, source: str, rows: Sequence[Mapping[str, Any]]) -> list[Grade]:
    """Return what grade() returns for each row's `sample` and `item`, all from one process.

    A row that blocks or ends the process gets an error, and a new process continues with the next row.
    """
    found: list[Grade] = []
    end = time.monotonic() + ALL_SECONDS
    while len(found) < len(rows) and time.monotonic() < end:
        with started(name, source) as ask:
            for row in rows[len(found) :]:
                answer = ask(row, max(0.0, min(ROW_SECONDS, end - time.monotonic())))
                found.append(answer["error"] if "error" in answer else answer["score"])
                if answer.get("lost"):
                    break
    late = f"not graded: the limit for all rows is {ALL_SECONDS:g} s"
    return found + [late] * (len(rows) - len(found))


@contextmanager
def started(name: str, source: str) -> Iterator[Ask]:
    """Start a process with the source, and yield the function that asks it; it and its children end with the block.

    Raises FinetuneError naming the grader if the source has no grade() that can be called. The limits protect against
    accidents, not against attacks: the source is part of the project, like its other code.
    """
    program = Path(__file__).with_name("python_grader_process.py").read_text(encoding="utf-8")
    # Our environment has the API key, so only what Python needs to start is passed. One thread and a fixed seed, so
    # that a grade is the same each time.
    environment = {key: os.environ[key] for key in ("SYSTEMROOT", "LD_LIBRARY_PATH") if key in os.environ}
    environment |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, "-s", "-B", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin
        assert process.stdout
        lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=read_lines, args=(process.stdout, lines), daemon=True).start()
        ask = ask_through(process.stdin, lines)
        try:
            limits = {"memory": MEMORY, "seconds": math.ceil(ALL_SECONDS)}
            answer = ask({"source": source, **limits}, START_SECONDS)
            if "error" in answer:
                raise FinetuneError(
                    f"evaluate.graders.{name}: the source fails: {answer['error']}.",
                    "It must define grade(sample, item), which returns a number.",
                )
            yield ask
        finally:
            stop(process)


def ask_through(stdin: IO[bytes], lines: "queue.Queue[bytes]") -> Ask:
    """Return the function that sends an object to the process and waits for its answer."""

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
    """Kill a process and its children."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()
