"""The engine in the box: an HTTP server of OpenAI's fine-tuning API that really trains open weights.

Nothing here imports the rest of `finetune`, and the rest knows only an address and a key.
Start it by itself with: finetune serve
"""

import os
from pathlib import Path


def before_torch(home: Path) -> None:
    """Settings that torch reads when it is first imported, for this process and its children."""
    # Threads of OpenMP that wait by spinning keep each other from working as soon as two processes share the cores: 3
    # times the speed for each of two trainings on two cores, and none lost alone.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Else torch leaves a folder of this name among the temporary ones, though nothing is compiled.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "torchinductor"))
