"""The engine's errors: refused requests in OpenAI's error envelope, and reasons why a job failed."""

from typing_extensions import TypedDict

from finetune.engine.client_text import encodable, reason


class ErrorDetail(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    """The body of an answer that is an error."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that is refused: the HTTP status, and the message, code and param of the error envelope.

    `unforeseen` is the exception of the engine that it stands for, if it is not the request that is wrong.
    """

    unforeseen: Exception | None = None

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def envelope(self) -> ErrorEnvelope:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "service_unavailable_error" if self.status == 503 else kind
        return {"error": {"message": encodable(self.message), "type": kind, "param": self.param, "code": self.code}}


def internal_error(error: Exception) -> ApiError:
    """Return the answer to a request that failed by an error of the engine."""
    found = ApiError(500, reason(error), "server_error")
    found.unforeseen = error
    return found


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


DAMAGED = "damaged_file"  # the code for content on the disk that is not what was written


def damaged(what: str, param: str) -> JobError:
    """Return the error for a file of the server that is not what was written."""
    message = f"The content of {what} on the server's disk is missing, cut or changed: it is not used."
    return JobError(DAMAGED, f"{message} Restore it from a backup, or make it again.", param)


def as_refusal(error: Exception) -> ApiError:
    """Return the answer to a request that failed by an exception.

    What fails jobs too, such as a missing base, gets a status that clients do not try again.
    """
    if isinstance(error, JobError):
        return ApiError(422 if error.code == DAMAGED else 404, error.message, error.code, error.param)
    return error if isinstance(error, ApiError) else internal_error(error)
