"""Measure how fast the engine answers lists of jobs, events and files, and how much memory that takes.

The engine is in its own process on this machine. It has JOBS jobs, and CLIENTS clients ask at the same time, each for
the next page as soon as it has one.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from common import use_demo

JOBS, EVENTS, CLIENTS, SECONDS = 5000, 200, 50, 5
LISTS = {
    "jobs": "/v1/fine_tuning/jobs",
    "jobs, a page in the middle": f"/v1/fine_tuning/jobs?after=ftjob-{JOBS // 2}",
    "jobs of one fingerprint": f"/v1/fine_tuning/jobs?metadata%5Bfingerprint%5D={JOBS // 2}&limit=100",
    "jobs without metadata": "/v1/fine_tuning/jobs?metadata=null",
    "events": "/v1/fine_tuning/jobs/ftjob-0/events",
    "files, 20 of a purpose": "/v1/files?purpose=fine-tune&limit=20",
}


def serve() -> None:
    """Fill the home, and serve it until this process has no more input."""
    from finetune.engine.embedded import embedded
    from finetune.engine.store import Store, default_home

    store = Store(default_home())
    with store.transaction() as db:
        for n in range(JOBS):
            metadata = json.dumps({"fingerprint": str(n), "project": "a"}) if n % 100 else None
            db.execute(
                "INSERT INTO jobs (id, created_at, status, model, seed, training_file, asked, metadata)"
                " VALUES (?, ?, 'succeeded', 'tiny', 1, 'file-0', '{\"n_epochs\": \"auto\"}', ?)",
                (f"ftjob-{n}", n, metadata),
            )
            db.execute("INSERT INTO files VALUES (NULL, ?, ?, 'train.jsonl', 'fine-tune', 1000)", (f"file-{n}", n))
            for event in range(EVENTS if n == 0 else 2):
                values = (f"ftevent-{n}-{event}", f"ftjob-{n}", n, "Step 1/9: training loss=1.23", '{"step": 1}')
                db.execute("INSERT INTO events VALUES (NULL, ?, ?, ?, 'info', 'metrics', ?, ?, 1)", values)
    with embedded() as address:
        print(address.base_url.removesuffix("/v1").removeprefix("http://"), address.key, flush=True)
        sys.stdin.read()


def ask_together(host: str, key: str, path: str, seconds: float) -> list[float]:
    """Return the seconds that each answer took, of CLIENTS clients at the same time."""
    took: list[float] = []
    end = time.monotonic() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection(host)
        while (start := time.monotonic()) < end:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            took.append(time.monotonic() - start)
        connection.close()

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return took


def main() -> None:
    use_demo()
    import psutil

    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FINETUNE_HOME": home}
        command = [sys.executable, __file__, "serve"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, env=environment, text=True, **pipes) as server:
            host, key = server.stdout.readline().split()
            memory = psutil.Process(server.pid).memory_info
            ask_together(host, key, LISTS["jobs"], 1)  # threads and connections are there after this
            before = memory().rss
            for name, path in LISTS.items():
                took = ask_together(host, key, path, SECONDS)
                slow = statistics.quantiles(took, n=20)[-1]
                print(
                    f"- The engine's list of {name}, with {JOBS:,} jobs and {CLIENTS} clients at once:"
                    f" median {1000 * statistics.median(took):.0f} ms, 95% under {1000 * slow:.0f} ms;"
                    f" {len(took) / SECONDS:.0f} answers/s"
                )
            print(f"- The engine's memory grew by {(memory().rss - before) / 1024**2:.1f} MiB meanwhile")
            server.stdin.close()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
