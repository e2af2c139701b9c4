"""The engine's errors: refused requests in OpenAI's error envelope, and reasons why a job failed."""

from typing_extensions import TypedDict


class ErrorDetail(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    """The body of an answer that is an error."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that is refused: the HTTP status, and the message, code and param of the error envelope."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def envelope(self) -> ErrorEnvelope:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def internal_error(error: Exception) -> ApiError:
    """Return the answer to a request that failed by an error of the engine."""
    return ApiError(500, f"{type(error).__name__}: {error}", "server_error")


def model_not_found(model: str) -> ApiError:
    """Return the answer to a request that names a model which this server does not have."""
    return ApiError(
        404, f"The model `{model}` does not exist or you do not have access to it.", "model_not_found", "model"
    )


class JobError(Exception):
    """A job that cannot continue: the code, message and param of the job's `error` object."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param
