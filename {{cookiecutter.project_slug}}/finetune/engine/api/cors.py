"""Cross-origin requests: the pages of one origin may read the answers of this server."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from finetune.engine.ids import new_id

METHODS = ("GET", "POST", "DELETE")
READABLE = ("x-request-id", "openai-processing-ms", "openai-version", "retry-after")


class Cors(CORSMiddleware):
    """Starlette's middleware for requests of one origin. A preflight of another one is answered like any request."""

    def __init__(self, app: ASGIApp, origin: str) -> None:
        super().__init__(
            app, allow_origins=[origin], allow_methods=METHODS, allow_headers=["*"], expose_headers=READABLE
        )
        self.origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and Headers(scope=scope).get("origin") == self.origin:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        answer.headers["x-request-id"] = new_id("req_")
        return answer
