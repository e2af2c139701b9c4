"""Train the job of a folder, and print the estimate of its memory beside what this process grew by until its peak.

Run it with: python tests/engine/peak.py JOB_FOLDER
"""

import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

import psutil

from finetune.engine import allocator
from finetune.engine.training import memory
from finetune.engine.training.train_job import train_job

found: dict[str, int] = {}


def note(*arguments: Any) -> None:
    """Note the estimate at the moment before the base is loaded, as if the job filled half of the memory."""
    allocator.give_back_freed_blocks()
    without_available = [*arguments[:-2], arguments[-1]]
    found["estimate"] = memory.estimate(*without_available).total
    found["before"] = psutil.Process().memory_info().rss


setattr(memory, "refuse_if_too_large", note)  # noqa: B010
train_job(Path(sys.argv[1]))
if sys.platform == "linux":  # there, ru_maxrss begins with the memory of the process that started this one
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found["peak"] = peak - found["before"]
print(json.dumps(found))
