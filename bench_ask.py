"""How near asking comes to what a provider allows: part of `make bench`, against a loopback server with limits.

The server answers each request after LATENCY seconds, and refuses with 429 and Retry-After what is over its limits of
requests and tokens, which refill steadily; `python bench_ask.py serve …` is that server, in a process of its own.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

DEMO = Path(__file__).parent / "demo" / "my-fine-tune"
ROWS, AT_ONCE, LATENCY, TOKENS = 1000, 64, 0.5, 12
UNLIMITED = 10_000_000
LIMITS = {  # a minute: requests, tokens
    "latency": (UNLIMITED, UNLIMITED),
    "requests": (3600, UNLIMITED),
    "tokens": (UNLIMITED, 3000 * TOKENS),
}


def serve(port: int, requests_a_minute: int, tokens_a_minute: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    limits = {"requests": requests_a_minute, "tokens": tokens_a_minute}
    takes = {"requests": 1, "tokens": TOKENS}
    levels = {kind: limit / 60 for kind, limit in limits.items()}  # no more than a second's worth is saved up
    seen = time.monotonic()

    async def chat(request):
        nonlocal seen
        await request.body()
        now = time.monotonic()
        for kind, limit in limits.items():
            levels[kind] = min(limit / 60, levels[kind] + (now - seen) * limit / 60)
        seen = now
        told = {f"x-ratelimit-limit-{kind}": str(limit) for kind, limit in limits.items()}
        told |= {f"x-ratelimit-remaining-{kind}": str(int(level)) for kind, level in levels.items()}
        if any(levels[kind] < takes[kind] for kind in limits):
            error = {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
            return JSONResponse({"error": error}, 429, told | {"retry-after-ms": "100"})
        for kind, amount in takes.items():
            levels[kind] -= amount
        await asyncio.sleep(LATENCY)
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": TOKENS - 2, "completion_tokens": 2, "total_tokens": TOKENS}
        body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        return JSONResponse(body, headers=told)

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


@contextmanager
def server(*limits: int):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "serve", str(port), *map(str, limits)])
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


def seconds(address: str) -> float:
    """How long the answers take, asked as a stage asks them."""
    from finetune.params import Evaluate, Provider
    from finetune.provider.completions import answer_all
    from finetune.provider.connect import connect

    settings = Evaluate(max_tokens=2, temperature=0.0, concurrency=AT_ONCE)
    prompts = [[{"role": "user", "content": str(number)}] for number in range(ROWS)]
    with connect(Provider(name="compatible", base_url=address)) as connection:
        start = time.monotonic()
        answers = answer_all(connection, "m", prompts, settings, 1, lambda *_: None, print)
        taken = time.monotonic() - start
    assert [answer.text for answer in answers] == ["yes"] * ROWS
    return taken


def main() -> None:
    import os

    sys.path.insert(0, str(DEMO))
    os.environ["FINETUNE_API_KEY"] = "k"
    for name, (requests_a_minute, tokens_a_minute) in LIMITS.items():
        ideal = max(
            ROWS * LATENCY / AT_ONCE,
            (ROWS - requests_a_minute / 60) * 60 / requests_a_minute + LATENCY,
            (ROWS - tokens_a_minute / 60 / TOKENS) * TOKENS * 60 / tokens_a_minute + LATENCY,
        )
        with tempfile.TemporaryDirectory() as home, server(requests_a_minute, tokens_a_minute) as address:
            os.environ["FINETUNE_HOME"] = home
            taken = seconds(address)
        print(
            f"- Asking {ROWS:,} rows, bound by {name}: {taken:.1f} s, the least possible is {ideal:.1f} s:"
            f" {ideal / taken:.0%} of the ideal rate"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*map(int, sys.argv[2:]))
    else:
        main()
