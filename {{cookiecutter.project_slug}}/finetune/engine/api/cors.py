"""Cross-origin requests: the pages of one origin may read the answers of this server."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "POST", "DELETE")
READABLE = ("x-request-id", "openai-processing-ms", "openai-version", "retry-after")


class Cors:
    """Starlette's middleware for requests of one origin. A preflight of another one is answered like any request."""

    def __init__(self, app: ASGIApp, origin: str) -> None:
        self.app, self.origin = app, origin
        self.of_origin = CORSMiddleware(
            app, allow_origins=[origin], allow_methods=METHODS, allow_headers=["*"], expose_headers=READABLE
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_of_origin = scope["type"] == "http" and Headers(scope=scope).get("origin") == self.origin
        await (self.of_origin if is_of_origin else self.app)(scope, receive, send)
