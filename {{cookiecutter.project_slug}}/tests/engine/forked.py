"""A launcher for tests that train many times: it forks workers from a process that has imported torch.

`forked.py serve SOCKET` is that process. `forked.py SOCKET -m finetune.engine.training.worker HOME` makes it start a
worker, which really trains. See FINETUNE_ENGINE_LAUNCHER.
"""

import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path


def serve(path: str) -> None:
    """Fork a worker for each home that a client names, until the parent ends."""
    from finetune.engine import before_torch

    before_torch(Path(path).parent)
    import peft
    import transformers.models.llama.modeling_llama

    import finetune.engine.training.train_job
    from finetune.engine.training import worker

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
            if os.fork() == 0:
                os.setsid()
                os.environ["FINETUNE_ENGINE_LAUNCHER"] = asked["launcher"]
                # Its command line is the same as that of the other workers, so its ID is in the name of a file.
                Path(asked["home"], f"worker-{os.getpid()}").touch()
                code = 1
                try:
                    worker.main(Path(asked["home"]))
                    code = 0
                finally:
                    os._exit(code)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    with socket.socket(socket.AF_UNIX) as to_server:
        to_server.connect(sys.argv[1])
        asked = {"home": sys.argv[-1], "launcher": os.environ.get("FINETUNE_ENGINE_LAUNCHER", "")}
        to_server.sendall(json.dumps(asked).encode() + b"\n")
        to_server.recv(1)  # until the worker has been forked
