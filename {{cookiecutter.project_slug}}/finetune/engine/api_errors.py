"""What the engine refuses, in the words and the shape of OpenAI's error envelope."""


class ApiError(Exception):
    """An answer other than 200: an HTTP status, and the envelope's message, code and param."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def envelope(self) -> dict[str, dict[str, str | None]]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class JobError(Exception):
    """A job that cannot go on: the `error` object that its followers will read."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param
