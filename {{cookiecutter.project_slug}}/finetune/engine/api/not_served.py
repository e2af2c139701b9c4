"""What OpenAI's API has and this server does not: the answers to such requests name what to use instead."""

import re
from collections.abc import Iterable

from starlette.routing import Route

CHAT = "/v1/chat/completions"
# The beginning of a path, what is there at OpenAI, and what this server has instead.
NOT_SERVED = (
    ("/v1/responses", "the Responses API", f"Send the conversation to POST {CHAT}."),
    ("/v1/conversations", "the Conversations API", f"Send the whole conversation to POST {CHAT}."),
    (CHAT, "stored completions", f"Keep the answers of POST {CHAT} where you ask."),
    ("/v1/moderations", "moderation", f"It answers only what its models generate: POST {CHAT}."),
    ("/v1/embeddings", "embeddings", f"It answers only what its models generate: POST {CHAT}."),
    ("/v1/images", "images", f"Its models read and write text: POST {CHAT}."),
    ("/v1/videos", "videos", f"Its models read and write text: POST {CHAT}."),
    ("/v1/audio", "audio", f"Its models read and write text: POST {CHAT}."),
    ("/v1/realtime", "the Realtime API", f"Its models read and write text: POST {CHAT}."),
    ("/v1/live", "the Live API", f"Its models read and write text: POST {CHAT}."),
    ("/v1/fine_tuning/alpha/graders", "graders", f"Grade the answers of POST {CHAT} where you ask."),
    ("/v1/evals", "evals", f"Score the answers of POST {CHAT} or of POST /v1/batches where you ask."),
    ("/v1/assistants", "assistants", f"Send the whole conversation to POST {CHAT}."),
    ("/v1/threads", "threads", f"Send the whole conversation to POST {CHAT}."),
    ("/v1/vector_stores", "vector stores", f"Search where you ask, and send what you found to POST {CHAT}."),
    ("/v1/containers", "containers", f"It runs no tools: they run where you ask POST {CHAT}."),
    ("/v1/skills", "skills", f"Write the instructions into the messages of POST {CHAT}."),
    ("/v1/organization", "administration", "It has one key, which its owner sets with FINETUNE_ENGINE_KEY."),
    ("/v1/projects", "projects", "It has one key, which its owner sets with FINETUNE_ENGINE_KEY."),
    ("/v1/fine-tunes", "the fine-tunes API of 2023", "Create jobs with POST /v1/fine_tuning/jobs."),
    ("/v1/engines", "engines", "Its models are at GET /v1/models."),
    ("/v1/edits", "edits", f"Write the instruction into the messages of POST {CHAT}."),
)


def instead_of(method: str, path: str, routes: Iterable[Route]) -> str | None:
    """Return the message for a request that no route answers; None if the path is nothing that clients know."""
    for start, what, instead in NOT_SERVED:
        if path.startswith(f"{start}/") or (path == start and not (start == CHAT and method not in ("GET", "HEAD"))):
            return f"This server does not have {what} ({method} {path}). {instead}"
    without = re.sub("^/v1(?=/v1/)", "", path)
    for other in (without, f"/v1{path}", re.sub("^/v1(?!/)", "/v1/", path)):
        if other != path and any(route.path_regex.match(other) for route in routes):
            return f"{method} {path}: Not Found. The path is {other}: the base URL must end in /v1, once."
    return None


def allowed_methods(path: str, routes: Iterable[Route]) -> list[str]:
    """Return the methods of all routes of a path."""
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})
