"""Stages in processes of their own that start at once: forked from one that has imported all they need.

`warm_stages.py SOCKET` is that process. Each child runs `finetune` as a user's shell does, and can be killed.
"""

import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

LONGEST = 300  # seconds of a stage, also on a busy machine: each has an end


class Child:
    """A forked command, as far as tests need what subprocess.Popen has: kill, wait and the exit status."""

    def __init__(self, path: Path, folder: Path, arguments: list[str], clock: int = 0, **environment: str) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(str(path))
        self.printed = folder.parent / f"{folder.name}-{time.monotonic_ns()}.txt"
        asked = {"folder": str(folder), "arguments": arguments, "clock": clock, "printed": str(self.printed)}
        self.connection.sendall(json.dumps({**asked, "environment": environment}).encode() + b"\n")
        self.answers = self.connection.makefile("r")
        self.pid = int(self.answers.readline())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Return the exit status as soon as the command has ended; -9 if it was killed. Raises TimeoutError."""
        self.connection.settimeout(LONGEST)
        with self.connection:
            return int(self.answers.readline() or "-9")


def run_child(asked: dict[str, Any], connection: socket.socket) -> None:
    """Run the command of a child, and send its exit status."""
    from finetune.cli import main

    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    real, ahead = time.time, asked["clock"]
    time.time = lambda: real() + ahead  # the clock of this machine, which is not the provider's
    printed = os.open(asked["printed"], os.O_WRONLY | os.O_CREAT)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.argv = ["finetune", *asked["arguments"]]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(f"{code}\n".encode())


def serve(path: str) -> None:
    """Fork a child for each command that comes, until the parent ends."""
    import quick

    import finetune.cli
    import finetune.provider.twin_jobs
    import finetune.stages.train
    import finetune.stages.upload

    assert finetune
    quick.shorten_pauses()
    finetune.provider.twin_jobs.LIST_DELAY = 0.01
    import openai

    openai.OpenAI(api_key="x", base_url="http://127.0.0.1:1")  # imports what the first client imports
    import scipy.stats
    import sklearn.gaussian_process

    assert scipy.stats
    assert sklearn.gaussian_process
    gc.freeze()  # children need not look through all that was imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        asked = json.loads(connection.makefile().readline())
        if os.fork() == 0:
            connection.sendall(f"{os.getpid()}\n".encode())
            try:
                run_child(asked, connection)
            except BaseException:  # as Python does at the end of a program
                traceback.print_exc()
                connection.sendall(b"70\n")
            finally:
                os._exit(1)
        connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])
