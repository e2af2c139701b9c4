"""The JSON bodies of requests. That of chat completions is in `inference/chat_request.py`: batches need it too."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from finetune.engine.request_body import NO_NUL, Metadata, RequestBody, parse_body
from finetune.engine.training.hyperparameters import LIMITS
from finetune.engine.uploads import MAX_FILENAME, MAX_UPLOAD, Purpose


class FileForm(RequestBody):
    """What a form says of the file that it uploads. Its other fields are ignored."""

    purpose: Purpose
    file: str = Field(
        max_length=MAX_FILENAME, pattern=NO_NUL, description=f"named by up to {MAX_FILENAME} characters without NUL"
    )


class UploadRequest(RequestBody):
    """`POST /v1/uploads`."""

    filename: str = Field(
        max_length=MAX_FILENAME, pattern=NO_NUL, description=f"a text of up to {MAX_FILENAME} characters without NUL"
    )
    mime_type: str
    purpose: Purpose
    bytes: int = Field(ge=1, le=MAX_UPLOAD)


class CompleteUploadRequest(RequestBody):
    """`POST /v1/uploads/{id}/complete`. Other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    part_ids: list[str] = Field(description="an array of the IDs of parts")
    md5: str | None = None


class AskedHyperparameters(RequestBody):
    """The hyperparameters of a job, each a number or `auto`."""

    unknown_code: ClassVar[str] = "unknown_parameter"

    n_epochs: Literal["auto"] | Annotated[int, Field(gt=0, le=LIMITS["n_epochs"])] = Field(
        "auto", description=f'"auto" or an integer from 1 to {LIMITS["n_epochs"]}'
    )
    batch_size: Literal["auto"] | Annotated[int, Field(gt=0, le=LIMITS["batch_size"])] = Field(
        "auto", description=f'"auto" or an integer from 1 to {LIMITS["batch_size"]}'
    )
    learning_rate_multiplier: (
        Literal["auto"] | Annotated[int | float, Field(gt=0, le=LIMITS["learning_rate_multiplier"])]
    ) = Field("auto", description=f'"auto" or a number above 0 and up to {LIMITS["learning_rate_multiplier"]}')


class SupervisedMethod(BaseModel):
    """The settings of supervised training."""

    model_config = ConfigDict(strict=True, extra="ignore")

    hyperparameters: dict[str, Any] | None = None


class Method(BaseModel):
    """The training method. Other keys, such as the settings of other methods, are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["supervised"]
    supervised: SupervisedMethod | None = None


class JobRequest(RequestBody):
    """`POST /v1/fine_tuning/jobs`."""

    unknown_code: ClassVar[str] = "unknown_parameter"
    codes: ClassVar[dict[str, str]] = {
        "model": "model_not_found",
        "training_file": "invalid_file",
        "validation_file": "invalid_file",
        "method": "unsupported_value",
        "integrations": "unsupported_parameter",
    }

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = Field(
        None, min_length=1, max_length=64, pattern=NO_NUL, description="a text of 1 to 64 characters without NUL"
    )
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    metadata: Metadata | None = None
    integrations: list[Any] | None = Field(
        None, max_length=0, description="empty or null: this server has no integrations"
    )
    method: Method | None = None
    hyperparameters: dict[str, Any] | None = None

    def asked_hyperparameters(self) -> AskedHyperparameters:
        """Return the hyperparameters of the method, else those beside it, which is OpenAI's older form.

        Raises ApiError if one of them is wrong.
        """
        of_method = self.method and self.method.supervised and self.method.supervised.hyperparameters
        return parse_body(AskedHyperparameters, of_method or self.hyperparameters or {}, "hyperparameters")


class BatchRequest(RequestBody):
    """`POST /v1/batches`."""

    codes: ClassVar[dict[str, str]] = {"input_file_id": "invalid_file"}

    endpoint: Literal["/v1/chat/completions"]
    completion_window: Literal["24h"]
    input_file_id: str
    metadata: Metadata | None = None


class TokenizeRequest(RequestBody):
    """`POST /tokenize`, in vLLM's form: OpenAI's API has no such request. Other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str
    prompt: str
