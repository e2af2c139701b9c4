"""What the benchmarks share: the demo project, its environment, and how rates and answers are timed.

`make bench` runs all benchmarks in the demo's environment, and each also runs by itself:
`demo/my-fine-tune/.venv/bin/python bench/checking.py`. Each prints its figures as lines of a Markdown list. None fails
because of a figure: speed depends on the machine.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DEMO = (ROOT / "demo" / "my-fine-tune").resolve()
BASE = "SmolLM2-135M-Instruct"
CONCURRENCY = 64  # requests at once, as in params.yaml
SERVE = """
import sys
from finetune.engine.embedded import embedded
with embedded() as address:
    print(address.base_url, address.key, flush=True)
    sys.stdin.read()
"""


def use_demo() -> None:
    """Make the demo's package importable, here and in child processes. Exits if the demo is not there."""
    if not (DEMO / "data" / "prepared" / "train.jsonl").exists():
        sys.exit(f"error: {DEMO} has no prepared data, which this benchmark reads. → Run `make demo` first.")
    sys.path.insert(0, str(DEMO))
    os.environ["PYTHONPATH"] = str(DEMO)


def environment(project: Path, home: Path) -> dict[str, str]:
    """Return the environment for commands in `project`: the demo's programs, and `home` as FINETUNE_HOME."""
    path = f"{DEMO / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "FINETUNE_HOME": str(home),
        "PYTHONPATH": str(project),
        "DVC_NO_ANALYTICS": "1",
    }


def median_rate(work: Callable[[], int], passes: int = 3) -> float:
    """Return the median of some passes, in items per second. `work` returns how many items it processed."""
    rates = []
    for _ in range(passes):
        start = time.monotonic()
        rates.append(work() / (time.monotonic() - start))
    return statistics.median(rates)


def time_answers(
    provider: dict[str, str], model: str, prompts: list[list[dict[str, str]]], max_tokens: int, concurrency: int
) -> tuple[float, list[str]]:
    """Return the seconds until all prompts are answered, and the answers' texts.

    Asks as a stage does. FINETUNE_HOME must have no answers to the same prompts: they would not be requested again.
    """
    from finetune.core.sections.evaluate import Evaluate
    from finetune.core.sections.provider import Provider
    from finetune.provider.completions import answer_all
    from finetune.provider.connect import connect

    settings = Evaluate(max_tokens=max_tokens, temperature=0.0, concurrency=concurrency)
    with connect(Provider(**provider)) as connection:
        # The first answer is not timed: the engine loads the model for it.
        answer_all(connection, model, [[{"role": "user", "content": "first"}]], settings, 1, lambda *_: None, print)
        start = time.monotonic()
        answers = answer_all(connection, model, prompts, settings, 1, lambda *_: None, print)
        return time.monotonic() - start, [answer.text for answer in answers]


def fill_lists(home: Path, jobs: int, events: int) -> None:
    """Write this many jobs that have ended, a file for each, and this many events of the first job.

    The metadata of a job has its number as fingerprint; each hundredth job has none.
    """
    from finetune.engine.store import Store

    with Store(home).transaction() as db:
        db.executemany(
            "INSERT INTO jobs (id, created_at, finished_at, status, model, seed, training_file, asked, metadata)"
            " VALUES (?, ?, 1, 'succeeded', 'tiny', 1, 'file-0', '{\"n_epochs\": \"auto\"}', ?)",
            ((f"ftjob-{n}", n, json.dumps({"fingerprint": str(n)}) if n % 100 else None) for n in range(jobs)),
        )
        db.executemany(
            "INSERT INTO files (id, created_at, filename, purpose, bytes)"
            " VALUES (?, ?, 'train.jsonl', 'fine-tune', 1000)",
            ((f"file-{n}", n) for n in range(jobs)),
        )
        db.executemany(
            "INSERT INTO events (id, job, created_at, level, type, message, data, step)"
            " VALUES (?, 'ftjob-0', ?, 'info', 'metrics', 'Step 1/9: training loss=1.23', '{\"step\": 1}', 1)",
            ((f"ftevent-{n}", n) for n in range(events)),
        )


class Server(NamedTuple):
    """An engine in a process beside this one."""

    pid: int
    base_url: str
    key: str

    @property
    def host(self) -> str:
        return self.base_url.split("/")[2]


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Serve the engine of the home in its own process while the block runs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, env={**os.environ, "FINETUNE_HOME": str(home)}, text=True, **pipes) as process:
        yield Server(process.pid, *process.stdout.readline().split())
        process.stdin.close()
