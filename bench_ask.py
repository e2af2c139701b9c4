"""How fast many questions are asked: part of `make bench`.

Against the engine: the demo's test questions, together and one at a time, beside Transformers' own `generate`.
Against a loopback server with limits: how near asking comes to what a provider allows. That server answers each request
after LATENCY seconds, and refuses with 429 and Retry-After what is over its limits of requests and tokens, which
refill steadily; `python bench_ask.py serve …` is it, in a process of its own.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

DEMO = Path(__file__).parent / "demo" / "my-fine-tune"
ROWS, AT_ONCE, LATENCY, TOKENS = 1000, 64, 0.5, 12
BASE, QUESTIONS, ANSWER = "SmolLM2-135M-Instruct", 80, 8
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


def asked(provider, model: str, prompts: list, max_tokens: int, at_once: int) -> tuple[float, list[str]]:
    """How long the answers take, asked as a stage asks them, from a home without answers; and their texts."""
    from finetune.core.params import Evaluate
    from finetune.provider.completions import answer_all
    from finetune.provider.connect import connect

    settings = Evaluate(max_tokens=max_tokens, temperature=0.0, concurrency=at_once)
    with connect(provider) as connection:
        answer_all(connection, model, [[{"role": "user", "content": "first"}]], settings, 1, lambda *_: None, print)
        start = time.monotonic()  # the model is in memory
        answers = answer_all(connection, model, prompts, settings, 1, lambda *_: None, print)
        return time.monotonic() - start, [answer.text for answer in answers]


def plain(folder: Path, prompts: list) -> float:
    """How long Transformers' own `generate` takes for the same, one question after the other."""
    import torch
    from finetune.engine.bases import best_dtype
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, best_dtype())).eval()
    start = time.monotonic()
    for prompt in prompts:
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        model.generate(**ids, max_new_tokens=ANSWER, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return time.monotonic() - start


def against_the_engine() -> None:
    from finetune.core.params import Provider

    lines = (DEMO / "data" / "prepared" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:QUESTIONS]
    prompts = [json.loads(line)["messages"][:-1] for line in lines]
    found = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["FINETUNE_HOME"] = home
        for at_once in (AT_ONCE, 1):
            found[at_once] = asked(Provider(name="local"), BASE, prompts, ANSWER, at_once)
            (Path(home) / "answers.db").unlink()
        (together, texts), (alone, same) = found.values()
        theirs = plain(Path(home) / "bases" / BASE, prompts)
        shutil.rmtree(Path(home) / "bases")
    print(
        f"- The engine answers {len(prompts) / together:.1f} questions/s asked {AT_ONCE} at once,"
        f" {len(prompts) / alone:.1f} asked one at a time: {alone / together:.1f} times; Transformers' `generate`,"
        f" one at a time, {len(prompts) / theirs:.1f}: {theirs / together:.1f} times"
    )
    print(f"- The answers are the same together and one at a time: {texts == same}")


def against_limits() -> None:
    from finetune.core.params import Provider

    os.environ["FINETUNE_API_KEY"] = "k"
    prompts = [[{"role": "user", "content": str(number)}] for number in range(ROWS)]
    for name, (requests_a_minute, tokens_a_minute) in LIMITS.items():
        ideal = max(
            ROWS * LATENCY / AT_ONCE,
            (ROWS - requests_a_minute / 60) * 60 / requests_a_minute + LATENCY,
            (ROWS - tokens_a_minute / 60 / TOKENS) * TOKENS * 60 / tokens_a_minute + LATENCY,
        )
        with tempfile.TemporaryDirectory() as home, server(requests_a_minute, tokens_a_minute) as address:
            os.environ["FINETUNE_HOME"] = home
            taken, texts = asked(Provider(name="compatible", base_url=address), "m", prompts, 2, AT_ONCE)
        assert texts == ["yes"] * ROWS
        print(
            f"- Asking {ROWS:,} rows, bound by {name}: {taken:.1f} s, the least possible is {ideal:.1f} s:"
            f" {ideal / taken:.0%} of the ideal rate"
        )


def main() -> None:
    if not (DEMO / "data" / "prepared" / "test.jsonl").exists():
        sys.exit("Run `make demo` first: the questions are its own.")
    sys.path.insert(0, str(DEMO))
    against_the_engine()
    against_limits()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*map(int, sys.argv[2:]))
    else:
        main()
