"""The chat completion object: the answers of the generator in the form of OpenAI's API."""

import time
from collections.abc import Sequence

from typing_extensions import TypedDict

from finetune.engine.inference.generation_types import GeneratedAnswer, GeneratedToken
from finetune.engine.store import new_id


class Usage(TypedDict):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(TypedDict):
    """OpenAI's chat completion object."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[dict[str, object]]
    usage: Usage


def completion(
    model: str, answers: Sequence[GeneratedAnswer], logprobs: bool, fingerprint: str | None
) -> ChatCompletion:
    """Return the chat completion object for one or more answers to the same prompt."""
    prompt_tokens = answers[0].prompt_tokens
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    return {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": fingerprint,
        "choices": [choice(index, answer, logprobs) for index, answer in enumerate(answers)],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def choice(index: int, answer: GeneratedAnswer, logprobs: bool) -> dict[str, object]:
    """Return one choice of a completion. `logprobs` says whether it reports its tokens."""
    content = [{**logprob(token), "top_logprobs": [logprob(top) for top in token.top]} for token in answer.tokens]
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "finish_reason": answer.finish_reason,
        "logprobs": {"content": content, "refusal": None} if logprobs else None,
    }


def logprob(token: GeneratedToken) -> dict[str, object]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw)}
