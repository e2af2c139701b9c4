"""Measure `finetune check` and `finetune prepare` on a million rows: seconds, and memory of all their processes."""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from chat_rows import write_rows
from common import use_demo

ROWS = 1_000_000
COMPARED_ROWS = 200_000  # prepared twice, with one worker and with two
PARAMS = """
data: {file: FILE, split: {train: 0.7, valid: 0.1, test: 0.2}}
provider: {name: openai}
train: {base: gpt-4.1-mini-2025-04-14, method: supervised, n_epochs: auto, batch_size: auto,
        learning_rate_multiplier: auto, seed: 42}
evaluate: {max_tokens: 6, temperature: 0, concurrency: 8}
"""
PREPARE = """
from finetune.core.params import load_params
from finetune.stages import prepare

prepare.run(load_params(), WORKERS)
"""


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command, and return its seconds and the most memory in MB that all its processes held at once."""
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        start, most, done = time.monotonic(), 0.0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.1):
                most = max(most, resident_megabytes(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
    if code:
        sys.exit(f"error: {' '.join(command)} exited with {code}. → Run it without this benchmark to see its message.")
    return seconds, most


def resident_megabytes(session: int) -> float:
    """Return the resident memory in MB of all processes of a session (Linux only)."""
    pages = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3]) == session:
                    pages += int((entry / "statm").read_text().split()[1])
            except (OSError, ValueError):  # the process ended meanwhile
                continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_params(folder: Path, file: Path) -> None:
    (folder / "params.yaml").write_text(PARAMS.replace("FILE", str(file)), encoding="utf-8")


def prepared_digests(folder: Path, workers: int) -> list[str]:
    """Prepare with a number of workers, and return the SHA-256 of each prepared file."""
    subprocess.run([sys.executable, "-c", PREPARE.replace("WORKERS", str(workers))], cwd=folder, check=True)
    files = sorted((folder / "data" / "prepared").iterdir())
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def main() -> None:
    use_demo()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large, small = folder / "large.jsonl", folder / "small.jsonl"
        write_rows(large, ROWS)
        size = large.stat().st_size / 1e6
        for command in (["check", str(large)], ["prepare"]):
            if command == ["prepare"]:
                write_params(folder, large)  # in a project, `check` would count tokens too
            seconds, memory = measure([sys.executable, "-m", "finetune", *command], folder)
            print(
                f"- `finetune {command[0]}` of {ROWS:,} rows ({size:.0f} MB):"
                f" {seconds:.0f} s, {memory:.0f} MB of memory in all its processes"
            )
        write_rows(small, COMPARED_ROWS)
        write_params(folder, small)
        same = prepared_digests(folder, workers=1) == prepared_digests(folder, workers=2)
    print(f"- The prepared bytes are the same with one worker and with two: {same}")


if __name__ == "__main__":
    main()
