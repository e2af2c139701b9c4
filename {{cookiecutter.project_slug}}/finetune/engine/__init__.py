"""The engine in the box: an HTTP server of OpenAI's fine-tuning API that really trains open weights.

It imports nothing from the rest of `finetune`, and the rest uses only its address and its key.
Start it alone with: finetune serve
"""

import atexit
import gc
import os
from pathlib import Path


def before_torch(home: Path) -> None:
    """Prepare this process, and by environment variables its children, for the first import of torch.

    The modules of torch, Transformers and PEFT have 400,000 objects. By default, Python's garbage collector goes
    through them again and again while they are imported, and once more when the process ends: half a second and a
    second of each process.
    """
    gc.set_threshold(10_000)  # new objects
    atexit.register(gc.freeze)
    # OpenMP threads that wait by spinning block each other when two processes share the cores. With a low spin count,
    # each of two trainings on two cores is 3 times as fast, and one training alone is as fast as before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Without this, torch leaves a folder of this name in the temporary directory, although nothing is compiled.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "torchinductor"))
