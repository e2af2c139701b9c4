"""The body of a request for one completion."""

from collections.abc import Sequence
from typing import Any

from finetune.core.params import Evaluate
from finetune.provider.connect import Connection

Messages = Sequence[dict[str, Any]]
CompletionRequest = dict[str, Any]  # the JSON that the API takes

MAX_TEXT_LOGPROBS = 5  # alternatives per token that completions of text give at most


def completion_request(
    connection: Connection,
    model: str,
    prompt: Messages | str,
    settings: Evaluate,
    seed: int,
    stop: str | None = None,
    top_logprobs: int = 0,
    shared_prompt: bool = False,
) -> CompletionRequest:
    """Return the request for one answer: by chat for messages, and up to `stop` for a text to complete.

    `shared_prompt` says that all prompts have the same turns before the last one.
    """
    request: CompletionRequest = {
        "model": model,
        "temperature": settings.temperature,
        "seed": seed,
        "max_tokens" if stop is not None else connection.profile.max_tokens_name: settings.max_tokens,
    }
    if stop is not None:
        request |= {"stop": stop} | ({"logprobs": min(MAX_TEXT_LOGPROBS, top_logprobs)} if top_logprobs else {})
    elif top_logprobs:
        request |= {"logprobs": True, "top_logprobs": top_logprobs}
    if shared_prompt and connection.profile.shared_prompts:
        request["prompt_cache_key"] = "examples"
    return request | ({"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)})
