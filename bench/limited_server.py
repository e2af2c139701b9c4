"""Serve chat completions with rate limits: python bench/limited_server.py PORT REQUESTS TOKENS (per minute).

Every answer takes LATENCY seconds. A request over a limit is refused with 429 and the time to wait. Limits refill
steadily, and at most one second's worth is saved.
"""

import asyncio
import sys
import time

LATENCY = 0.5  # seconds
TOKENS = 12  # of a request with its answer


def serve(port: int, requests_per_minute: int, tokens_per_minute: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
    costs = {"requests": 1, "tokens": TOKENS}
    levels = {kind: limit / 60 for kind, limit in limits.items()}
    refilled = time.monotonic()

    async def chat(request):
        nonlocal refilled
        await request.body()
        now = time.monotonic()
        for kind, limit in limits.items():
            levels[kind] = min(limit / 60, levels[kind] + (now - refilled) * limit / 60)
        refilled = now
        headers = {f"x-ratelimit-limit-{kind}": str(limit) for kind, limit in limits.items()}
        headers |= {f"x-ratelimit-remaining-{kind}": str(int(level)) for kind, level in levels.items()}
        if any(levels[kind] < costs[kind] for kind in limits):
            error = {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
            return JSONResponse({"error": error}, 429, headers | {"retry-after-ms": "100"})
        for kind, cost in costs.items():
            levels[kind] -= cost
        await asyncio.sleep(LATENCY)
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": TOKENS - 2, "completion_tokens": 2, "total_tokens": TOKENS}
        body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        return JSONResponse(body, headers=headers)

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
