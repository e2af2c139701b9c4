"""Measure how near asking is to the rate that a provider's limits allow.

The provider is limited_server.py, in its own process on this machine.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import CONCURRENCY, time_answers, use_demo
from limited_server import LATENCY, TOKENS

ROWS = 1000
UNLIMITED = 10_000_000
LIMITS = {  # requests and tokens per minute, by what limits the rate
    "latency": (UNLIMITED, UNLIMITED),
    "requests": (3600, UNLIMITED),
    "tokens": (UNLIMITED, 3000 * TOKENS),
}


@contextmanager
def run_server(requests_per_minute: int, tokens_per_minute: int) -> Iterator[str]:
    """Run the server on a free port, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("limited_server.py")
    process = subprocess.Popen([sys.executable, *map(str, (script, port, requests_per_minute, tokens_per_minute))])
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def ideal_seconds(requests_per_minute: int, tokens_per_minute: int) -> float:
    """Return the least seconds that the limits allow for ROWS answers. One second's worth may be sent at the start."""
    return max(
        ROWS * LATENCY / CONCURRENCY,
        (ROWS - requests_per_minute / 60) * 60 / requests_per_minute + LATENCY,
        (ROWS - tokens_per_minute / 60 / TOKENS) * TOKENS * 60 / tokens_per_minute + LATENCY,
    )


def main() -> None:
    use_demo()
    os.environ["FINETUNE_API_KEY"] = "k"
    prompts = [[{"role": "user", "content": str(number)}] for number in range(ROWS)]
    for name, limits in LIMITS.items():
        with tempfile.TemporaryDirectory() as home, run_server(*limits) as address:
            os.environ["FINETUNE_HOME"] = home
            provider = {"name": "compatible", "base_url": address}
            seconds, texts = time_answers(provider, "m", prompts, 2, CONCURRENCY)
        assert texts == ["yes"] * ROWS
        ideal = ideal_seconds(*limits)
        print(
            f"- Asking {ROWS:,} questions, limited by {name}: {seconds:.1f} s; the least possible: {ideal:.1f} s;"
            f" {ideal / seconds:.0%} of the ideal rate"
        )


if __name__ == "__main__":
    main()
