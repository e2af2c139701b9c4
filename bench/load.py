"""Measure the engine's server under load: how fast polls are answered, and how much memory it takes.

CHATS clients ask at the same time while a job trains, beside JOBS jobs, EVENTS events of one job and a training file
of ROWS rows. Clients, polls and the server each have their own process on this machine.
"""

import io
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import DEMO, Server, fill_lists, serving, use_demo

CHATS, JOBS, EVENTS, ROWS = 200, 5000, 100_000, 1_000_000
SECONDS = 40  # of the load
TOKENS = 16  # of an answer
MODEL = "tiny"  # two layers with random weights
POLLS = {
    "jobs.retrieve": "/v1/fine_tuning/jobs/ftjob-0",
    "jobs.list": "/v1/fine_tuning/jobs?limit=20",
    "events.list": "/v1/fine_tuning/jobs/ftjob-0/events?limit=20",
    "files.list": "/v1/files?limit=20",
    "models.list": "/v1/models",
}
PAUSE = 0.05  # seconds between two polls


def training_rows(count: int) -> bytes:
    """Return a training file of this many rows."""
    rows = (
        f'{{"messages": [{{"role": "user", "content": "Which colour has number {n}?"}},'
        f' {{"role": "assistant", "content": "{("red", "blue", "green")[n % 3]}"}}]}}\n'
        for n in range(count)
    )
    return "".join(rows).encode()


def poll(server: Server, seconds: float) -> dict[str, list[float]]:
    """Return the seconds that each answer to POLLS took, one after the other."""
    took = defaultdict(list)
    connection = HTTPConnection(server.host)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, path in POLLS.items():
            start = time.monotonic()
            connection.request("GET", path, headers={"Authorization": f"Bearer {server.key}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            took[name].append(time.monotonic() - start)
            time.sleep(PAUSE)
    return dict(took)


def chat(server: Server, seconds: float) -> tuple[list[float], Counter[str]]:
    """Return the seconds that each answer took, of CHATS clients at the same time, and how often each error came."""
    took: list[float] = []
    errors: Counter[str] = Counter()
    end = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}

    def ask(number: int) -> None:
        connection = HTTPConnection(server.host)
        while (start := time.monotonic()) < end:
            messages = [{"role": "user", "content": f"Client {number} asks at {start}."}]
            body = json.dumps({"model": MODEL, "messages": messages, "max_tokens": TOKENS, "temperature": 0})
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status == 200:
                    took.append(time.monotonic() - start)
                else:
                    errors[f"{answer.status} {content[:200]!r}"] += 1
            except OSError as error:
                errors[repr(error)] += 1
                connection.close()

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(CHATS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return took, errors


@contextmanager
def watched_memory(pid: int) -> Iterator[dict[int, int]]:
    """Yield the most memory in bytes, so far, of a process and of each worker that it has started, by their pid."""
    import psutil

    peaks: dict[int, int] = {}
    ended = threading.Event()

    def watch() -> None:
        process = psutil.Process(pid)
        while not ended.wait(0.1):
            for one in (process, *process.children()):
                try:
                    peaks[one.pid] = max(peaks.get(one.pid, 0), one.memory_info().rss)
                except psutil.Error:  # it has just ended
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def start_job(client: Any, file_id: str, epochs: int) -> str:
    hyperparameters = {"n_epochs": epochs, "batch_size": 4}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=file_id, method=method, seed=1)
    return str(job.id)


def wait_for(client: Any, job_id: str, *statuses: str) -> str:
    """Return the status of a job as soon as it is one of these, or an end."""
    while (status := client.fine_tuning.jobs.retrieve(job_id).status) not in (*statuses, "failed", "succeeded"):
        time.sleep(0.2)
    return str(status)


def mib(size: float) -> str:
    return f"{size / 1024**2:,.0f} MiB"


def print_polls(when: str, took: dict[str, list[float]]) -> None:
    for name, seconds in took.items():
        slow = sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
        print(
            f"- Polls `{name}` {when}: median {1000 * statistics.median(seconds):.0f} ms,"
            f" 95% under {1000 * slow:.0f} ms, slowest {1000 * max(seconds):.0f} ms",
            flush=True,
        )


def upload(server: Server, client: Any, pool: ProcessPoolExecutor, peaks: dict[int, int]) -> str:
    """Upload the large file while polls go on, print both, and return the file's ID."""
    content = training_rows(ROWS)
    before = peaks[server.pid]
    polls = pool.submit(poll, server, 8)
    start = time.monotonic()
    file = client.files.create(file=("train.jsonl", io.BytesIO(content)), purpose="fine-tune")
    seconds = time.monotonic() - start
    print_polls(f"while a file of {ROWS:,} rows is uploaded", polls.result())
    grown = mib(peaks[server.pid] - before)
    print(f"- Upload of {ROWS:,} rows, {mib(len(content))}: {seconds:.1f} s; the server's memory grew by {grown}")
    return str(file.id)


def validate(client: Any, file_id: str) -> str:
    """Create a job on the large file, wait until it is validated, cancel it, and return what happened."""
    start = time.monotonic()
    job_id = start_job(client, file_id, 1)
    status = wait_for(client, job_id, "queued", "running")
    seconds = time.monotonic() - start
    if status not in ("failed", "succeeded"):
        client.fine_tuning.jobs.cancel(job_id)
    return f"{status} after {seconds:.1f} s"


def main() -> None:
    use_demo()
    import openai

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill_lists(home, JOBS, EVENTS)
        sys.path.insert(0, str(DEMO / "tests" / "engine"))
        from tiny import make_tiny_base

        make_tiny_base(home / "bases" / MODEL)
        with (
            serving(home) as server,
            openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=600) as client,
            ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool,
            watched_memory(server.pid) as peaks,
        ):
            chat_once = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
            client.chat.completions.create(model=MODEL, **chat_once)  # loads the base
            time.sleep(0.5)
            at_rest = peaks[server.pid]
            large = upload(server, client, pool, peaks)
            small = client.files.create(file=("small.jsonl", training_rows(400)), purpose="fine-tune")
            training = start_job(client, small.id, 50)
            wait_for(client, training, "running")
            trainers = set(peaks)
            chats: Future[tuple[list[float], Counter[str]]] = pool.submit(chat, server, SECONDS)
            polls = pool.submit(poll, server, SECONDS)
            validated = validate(client, large)
            took, errors = chats.result()
            still = client.fine_tuning.jobs.retrieve(training).status
            print_polls(f"beside {CHATS} chats, a training job and the check of {ROWS:,} rows", polls.result())
            print(
                f"- {CHATS} chats at once for {SECONDS} s, of {TOKENS} tokens, with a base of two layers:"
                f" {len(took) / SECONDS:.0f} answers/s, median {statistics.median(took):.1f} s, slowest"
                f" {max(took):.1f} s; errors: {errors.total()} {dict(errors.most_common(3)) or ''};"
                f" the job was {still} at the end"
            )
            checkers = [peak for pid, peak in peaks.items() if pid not in trainers]
            print(f"- A job on {ROWS:,} rows: {validated}; its process took up to {mib(max(checkers, default=0))}")
            print(f"- The server's memory: {mib(at_rest)} at rest with a loaded base, at most {mib(peaks[server.pid])}")
            if still not in ("succeeded", "failed"):
                client.fine_tuning.jobs.cancel(training)
                wait_for_workers(server.pid)


def wait_for_workers(pid: int) -> None:
    """Wait until the workers of a server have ended: they write to its folder."""
    import psutil

    psutil.wait_procs(psutil.Process(pid).children(), timeout=60)


if __name__ == "__main__":
    main()
