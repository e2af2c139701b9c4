"""Measure how fast the engine answers lists of jobs, events and files, and how much memory that takes.

The engine is in its own process on this machine. It has JOBS jobs, and CLIENTS clients ask at the same time, each for
the next page as soon as it has one.
"""

import http.client
import statistics
import tempfile
import threading
import time
from pathlib import Path

from common import Server, fill_lists, serving, use_demo

JOBS, EVENTS, CLIENTS, SECONDS = 5000, 200, 50, 5
LISTS = {
    "jobs": "/v1/fine_tuning/jobs",
    "jobs, a page in the middle": f"/v1/fine_tuning/jobs?after=ftjob-{JOBS // 2}",
    "jobs of one fingerprint": f"/v1/fine_tuning/jobs?metadata%5Bfingerprint%5D={JOBS // 2}&limit=100",
    "jobs without metadata": "/v1/fine_tuning/jobs?metadata=null",
    "events": "/v1/fine_tuning/jobs/ftjob-0/events",
    "files, 20 of a purpose": "/v1/files?purpose=fine-tune&limit=20",
}


def ask_together(server: Server, path: str, seconds: float) -> list[float]:
    """Return the seconds that each answer took, of CLIENTS clients at the same time."""
    took: list[float] = []
    end = time.monotonic() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection(server.host)
        while (start := time.monotonic()) < end:
            connection.request("GET", path, headers={"Authorization": f"Bearer {server.key}"})
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
        fill_lists(Path(home), JOBS, EVENTS)
        with serving(Path(home)) as server:
            memory = psutil.Process(server.pid).memory_info
            ask_together(server, LISTS["jobs"], 1)  # threads and connections are there after this
            before = memory().rss
            for name, path in LISTS.items():
                took = ask_together(server, path, SECONDS)
                slow = statistics.quantiles(took, n=20)[-1]
                print(
                    f"- The engine's list of {name}, with {JOBS:,} jobs and {CLIENTS} clients at once:"
                    f" median {1000 * statistics.median(took):.0f} ms, 95% under {1000 * slow:.0f} ms;"
                    f" {len(took) / SECONDS:.0f} answers/s",
                    flush=True,
                )
            print(f"- The engine's memory grew by {(memory().rss - before) / 1024**2:.1f} MiB meanwhile")


if __name__ == "__main__":
    main()
