"""Which sampling parameters a server refuses for a model: learned from its answer, and not sent again."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

# Without these a model answers by its own defaults. Not the others: without `stop` or `logprobs` it would answer
# something else than what was asked for.
OPTIONAL = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "reasoning_effort",
    "parallel_tool_calls",
)
REPLACED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
WORDS = ("unsupported", "not support", "unrecognized", "unknown", "not permitted", "not allowed", "deprecated", "extra")

REFUSED: dict[tuple[str, str], set[str]] = {}  # by the server's address and the model


def refused(client: "OpenAI", model: str) -> set[str]:
    """Return the parameters that this server has refused for a model, in this run."""
    return REFUSED.setdefault((str(client.base_url), model), set())


def without_refused(client: "OpenAI", request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request without the parameters that the server refuses for its model."""
    known = refused(client, str(request["model"]))
    return {
        REPLACED.get(name, name) if name in known else name: value
        for name, value in request.items()
        if name not in known or name in REPLACED
    }


def learn_refused(client: "OpenAI", request: Mapping[str, Any], error: "APIStatusError") -> bool:
    """Remember the parameter that a refusal names; return whether the request can be sent again without it.

    `request` is as it was sent.
    """
    body = error.body if isinstance(error.body, Mapping) else {}
    return error.status_code in (400, 422) and learn_from(client, request, {"message": error.message} | dict(body))


def learn_from(client: "OpenAI", request: Mapping[str, Any], error: Mapping[str, Any]) -> bool:
    """Do the same from an error object. A server names the parameter in `param`, or in its message, in quotes."""
    message = str(error.get("message") or "")
    about = f"{error.get('code') or ''} {message}".lower()
    if not any(word in about for word in WORDS):
        return False
    for name in (*OPTIONAL, *REPLACED):
        named = error.get("param") == name or any(f"{mark}{name}{mark}" in message for mark in "'`\"")
        if named and name in request:
            known = refused(client, str(request["model"]))
            if name in REPLACED and REPLACED[name] in known:
                return False
            known.add(name)
            return True
    return False
