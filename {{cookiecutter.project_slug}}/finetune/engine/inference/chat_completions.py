"""The chat completion object: the answers of the generator in the form of OpenAI's API."""

import time
from collections.abc import Sequence

from typing_extensions import NotRequired, TypedDict

from finetune.engine.inference.generation_types import GeneratedAnswer, GeneratedToken, PromptToken
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
    prompt_logprobs: NotRequired[list[dict[str, dict[str, object]] | None]]  # vLLM's addition, where it is requested


def completion(
    model: str, answers: Sequence[GeneratedAnswer], logprobs: bool, fingerprint: str | None
) -> ChatCompletion:
    """Return the chat completion object for one or more answers to the same prompt."""
    prompt_tokens = answers[0].prompt_tokens
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    found: ChatCompletion = {
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
    prompt = answers[0].prompt
    if prompt is not None:
        found["prompt_logprobs"] = [prompt_logprobs(place) if place else None for place in prompt]
    return found


def choice(index: int, answer: GeneratedAnswer, logprobs: bool) -> dict[str, object]:
    """Return one choice of a completion. `logprobs` says whether it reports its tokens."""
    content = [{**logprob(token), "top_logprobs": [logprob(top) for top in token.top]} for token in answer.tokens]
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "finish_reason": answer.finish_reason,
        "logprobs": {"content": content, "refusal": None} if logprobs else None,
    }


def prompt_logprobs(place: Sequence[PromptToken]) -> dict[str, dict[str, object]]:
    """Return the tokens at a place of the prompt by their IDs; the prompt's own token comes first."""
    return {
        str(token.token_id): {"logprob": token.logprob, "rank": token.rank, "decoded_token": token.text}
        for token in place
    }


def logprob(token: GeneratedToken) -> dict[str, object]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw)}
