"""The engine in the box: an HTTP server of OpenAI's fine-tuning API that really trains open weights.

It imports nothing from the rest of `finetune`, and the rest uses only its address and its key.
Start it alone with: finetune serve
"""

import os
from pathlib import Path


def before_torch(home: Path) -> None:
    """Set the environment variables that torch reads at its first import, for this process and its children."""
    # OpenMP threads that wait by spinning block each other when two processes share the cores. With a low spin count,
    # each of two trainings on two cores is 3 times as fast, and one training alone is as fast as before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Without this, torch leaves a folder of this name in the temporary directory, although nothing is compiled.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "torchinductor"))
