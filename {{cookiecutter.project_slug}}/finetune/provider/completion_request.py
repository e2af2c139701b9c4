"""The body of a request for one completion."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.sections.evaluate import Evaluate
from finetune.provider.connect import Connection

Messages = Sequence[dict[str, Any]]
CompletionRequest = dict[str, Any]  # the JSON that the API takes

# Reasoning models take no sampling parameters but their defaults. Source: OpenAI's guide to GPT-5 and to reasoning.
REASONS = re.compile(r"(?:ft:|openai/)*(?:o[1-9](?:-|$)|gpt-5(?:-mini|-nano|-pro)?(?:-\d|:|$))")
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
MAX_TEXT_LOGPROBS = 5  # alternatives per token that completions of text give at most


def completion_request(
    connection: Connection,
    model: str,
    prompt: Messages | str,
    settings: Evaluate,
    seed: int,
    stop: str | None = None,
    top_logprobs: int = 0,
    declared: Mapping[str, Any] | None = None,
) -> CompletionRequest:
    """Return the request for one answer: by chat for messages, and up to `stop` for a text to complete.

    `declared` has the tools that the model may call, as an example declares them.
    What is not set is not sent, so that the keys of kept answers stay as they are.
    """
    request: CompletionRequest = {
        "model": model,
        "temperature": settings.temperature,
        "seed": seed,
        "max_tokens" if stop is not None else connection.profile.max_tokens_name: settings.max_tokens,
    }
    if settings.stop:
        request["stop"] = [*([stop] if stop is not None else []), *settings.stop]
    elif stop is not None:
        request["stop"] = stop
    for name in ("presence_penalty", "frequency_penalty"):
        if penalty := getattr(settings, name):
            request[name] = penalty
    if top_logprobs and stop is not None:
        request["logprobs"] = min(MAX_TEXT_LOGPROBS, top_logprobs)
    elif top_logprobs:
        request |= {"logprobs": True, "top_logprobs": top_logprobs}
    request = taken_by_model(request)
    return request | ({"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt), **(declared or {})})


def reasons(model: str) -> bool:
    """Return whether a model is known to reason before it answers, by its name."""
    return bool(REASONS.match(model))


def taken_by_model(request: CompletionRequest) -> CompletionRequest:
    """Return a request without the sampling parameters that its model is known to refuse."""
    if not reasons(str(request["model"])):
        return request
    taken = {key: value for key, value in request.items() if key not in SAMPLING}
    if "max_tokens" in taken:
        taken["max_completion_tokens"] = taken.pop("max_tokens")
    return taken
