"""Chat completions: what a request may hold, what the generator is asked, and the object that goes back."""

import time
from typing import Any, cast

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.generation_types import GeneratedAnswer, GeneratedToken, GenerationRequest
from finetune.engine.store import new_id

IGNORED_CHAT_KEYS = {"user", "store", "metadata", "service_tier", "prompt_cache_key", "safety_identifier"}
CHAT_KEYS = {
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "seed", "stop",
    "logprobs", "top_logprobs",
}  # fmt: skip


def check_chat(body: dict[str, Any]) -> None:
    """Refuse what this server would get wrong rather than ignore it."""
    for key, value in sorted(body.items()):
        if key not in CHAT_KEYS | IGNORED_CHAT_KEYS and value not in (None, False):
            raise ApiError(400, f"This server does not support '{key}'.", "unsupported_parameter", key)
    messages = body.get("messages")
    if not isinstance(body.get("model"), str):
        raise ApiError(400, "you must provide a model parameter", "missing_required_parameter", "model")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "'messages' must be a non-empty array.", "invalid_value", "messages")
    for index, message in enumerate(messages):
        text = isinstance(message, dict) and isinstance(message.get("content"), str)
        if not text or message.get("role") not in ("system", "developer", "user", "assistant"):
            raise ApiError(
                400, "Each message has a role and a text as its content.", "invalid_value", f"messages[{index}]"
            )
    ranges: dict[str, tuple[float, float, type | tuple[type, ...]]] = {
        "max_tokens": (1, 1_000_000, int),
        "max_completion_tokens": (1, 1_000_000, int),
        "temperature": (0, 2, (int, float)),
        "top_p": (0, 1, (int, float)),
        "n": (1, 128, int),
        "seed": (-(2**63), 2**63 - 1, int),
        "top_logprobs": (0, 20, int),
    }
    for key, (low, high, kind) in ranges.items():
        given: Any = body.get(key)
        if given is not None and not (isinstance(given, kind) and low <= cast("float", given) <= high):
            raise ApiError(400, f"'{key}' must be a number from {low} to {high}.", "invalid_value", key)
    if body.get("top_logprobs") and not body.get("logprobs"):
        raise ApiError(400, "'top_logprobs' needs 'logprobs' to be true.", "invalid_value", "top_logprobs")
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise ApiError(400, "'stop' is a text or up to four.", "invalid_value", "stop")


def choices_of(body: dict[str, Any]) -> list[GenerationRequest]:
    """One request to the generator per choice; without a seed, each call draws anew."""
    seed = body.get("seed")
    first_seed = time.time_ns() if seed is None else seed
    top_logprobs = (body.get("top_logprobs") or 0) if body.get("logprobs") else None
    stop = body.get("stop") or ()
    return [
        GenerationRequest(
            model=body["model"],
            messages=body["messages"],
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
            temperature=1 if body.get("temperature") is None else body["temperature"],
            top_p=1 if body.get("top_p") is None else body["top_p"],
            seed=(first_seed + index) % 2**63,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            top_logprobs=top_logprobs,
        )
        for index in range(body.get("n") or 1)
    ]


def completion(model: str, answers: list[GeneratedAnswer], logprobs: bool) -> dict[str, Any]:
    """The chat completion object of one or more answers to the same prompt."""

    def logprob(token: GeneratedToken) -> dict[str, Any]:
        return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw)}

    prompt_tokens = answers[0].prompt_tokens
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    return {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "finish_reason": answer.finish_reason,
                "logprobs": {
                    "content": [{**logprob(t), "top_logprobs": [logprob(top) for top in t.top]} for t in answer.tokens],
                    "refusal": None,
                }
                if logprobs
                else None,
            }
            for index, answer in enumerate(answers)
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
