"""A launcher for tests that train many times: it forks trainers from a process that has imported torch.

`forked.py serve SOCKET` is that process. `forked.py SOCKET -m finetune.engine.training JOB_FOLDER` makes it start a
trainer, which really trains, and ends with it; with `--num_processes 2` before `-m`, in two processes. See
FINETUNE_ENGINE_LAUNCHER.
"""

import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path


def serve(path: str) -> None:
    """Fork a trainer for each job folder that a client names, until the parent ends."""
    from finetune.engine import before_torch

    before_torch(Path(path).parent)
    import peft
    import transformers.models.llama.modeling_llama

    import finetune.engine.training.train_job
    from finetune.engine.training.__main__ import main

    assert peft
    lazy = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    assert all(isinstance(one, type) for one in lazy)
    assert finetune.engine.training.train_job
    gc.freeze()  # children need not look through all that was imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            asked = json.loads(connection.makefile().readline())
            for rank in range(asked["processes"]):
                if os.fork() == 0:
                    os.setsid()
                    os.environ.update(asked["environment"])
                    if asked["processes"] > 1:
                        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(asked["processes"]))
                    code = 1
                    try:
                        code = main(Path(asked["folder"]))
                    finally:
                        connection.sendall(bytes([code]))
                        os._exit(code)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    with socket.socket(socket.AF_UNIX) as to_server:
        to_server.connect(sys.argv[1])
        processes = int(sys.argv[3]) if sys.argv[2] == "--num_processes" else 1
        asked = {"folder": sys.argv[-1], "environment": dict(os.environ), "processes": processes}
        to_server.sendall(json.dumps(asked).encode() + b"\n")
        for _ in range(processes):
            code = to_server.recv(1)  # the exit code of a process; nothing if all were killed
            if code != b"\0":
                sys.exit(1)
