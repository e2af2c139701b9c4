"""HTTP below the application: what is no HTTP request is refused in OpenAI's envelope, too."""

import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from finetune.engine.api_errors import ApiError
from finetune.engine.ids import new_id


class Protocol(H11Protocol):
    """Uvicorn's protocol, whose own refusals are plain text."""

    def send_400_response(self, msg: str) -> None:
        """Refuse broken HTTP, such as a chunk without a length, and close the connection."""
        body = json.dumps(ApiError(400, msg).envelope()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers.append((b"x-request-id", new_id("req_").encode()))
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # no answer has begun
            start = h11.Response(status_code=400, headers=[*headers, (b"connection", b"close")], reason=b"Bad Request")
            for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
