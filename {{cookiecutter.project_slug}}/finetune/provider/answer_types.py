"""The types of the provider's objects. The SDK makes an object of any answer, whatever types its fields have.

A field that the work can do without is left out where its type is wrong, and a warning says so. Without one of the
others - which job it is, whose, what has become of it - nothing could be decided, so the whole answer is refused.
"""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import Required, TypedDict  # pydantic asks for this one before Python 3.12

from finetune.provider.type_checks import Kind, WrongAnswerError, check_fields

Id = Annotated[str, Field(min_length=1)]
Count = Annotated[float, Field(ge=0, lt=1e15, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, lt=10**15)]
Time = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]  # seconds since 1970; milliseconds are no such time


class Object(TypedDict, total=False):
    id: Required[Id]
    created_at: Time | None


class Hyperparameters(TypedDict, total=False):
    n_epochs: Count | str | None
    batch_size: Count | str | None
    learning_rate_multiplier: Count | str | None


class MethodKind(TypedDict, total=False):
    hyperparameters: Hyperparameters | None


class Method(TypedDict, total=False):
    type: str | None
    supervised: MethodKind | None
    dpo: MethodKind | None
    reinforcement: MethodKind | None


class Failure(TypedDict, total=False):
    code: str | None
    message: str | None
    param: str | None
    line: Tokens | None


class Job(Object, total=False):
    status: Required[str]
    model: str | None
    fine_tuned_model: str | None
    training_file: str | None
    validation_file: str | None
    metadata: dict[str, Any] | None
    finished_at: Time | None
    trained_tokens: Tokens | None
    seed: int | None
    suffix: str | None
    hyperparameters: Hyperparameters | None
    method: Method | None
    error: Failure | None
    result_files: list[str] | None
    integrations: list[Any] | None
    estimated_finish: Time | None


class Event(TypedDict, total=False):
    id: Id | None
    created_at: Time | None
    level: str | None
    message: str | None
    type: str | None


class Metrics(TypedDict, total=False):
    step: Count | None
    train_loss: float | None  # may be NaN, which says that the training has diverged
    valid_loss: float | None
    full_valid_loss: float | None
    train_mean_token_accuracy: float | None
    valid_mean_token_accuracy: float | None
    full_valid_mean_token_accuracy: float | None


class Checkpoint(TypedDict, total=False):
    id: Id | None
    created_at: Time | None
    fine_tuned_model_checkpoint: Required[Id]
    step_number: Required[Count]
    metrics: Metrics | None
    result_files: list[str] | None


class File(Object, total=False):
    filename: str | None
    bytes: Count | None
    status: str | None
    purpose: str | None
    status_details: str | None


class Upload(Object, total=False):
    expires_at: Time | None
    file: File | None


class Model(TypedDict, total=False):
    id: Required[Id]
    created: Time | None


class RequestCounts(TypedDict, total=False):
    total: Tokens | None
    completed: Tokens | None
    failed: Tokens | None


class BatchErrors(TypedDict, total=False):
    data: list[Failure] | None


class Batch(Object, total=False):
    status: Required[str]
    metadata: dict[str, Any] | None
    output_file_id: str | None
    error_file_id: str | None
    request_counts: RequestCounts | None
    errors: BatchErrors | None


class Page(TypedDict, total=False):
    has_more: bool | None


class AzureModel(TypedDict, total=False):
    name: str | None
    version: str | None


class AzureProperties(TypedDict, total=False):
    provisioningState: str | None
    model: AzureModel | None


class AzureDeployment(TypedDict, total=False):
    properties: AzureProperties | None


class NebiusModel(TypedDict, total=False):
    name: str | None
    status: str | None
    status_reason: str | None


JOB = ("id", "status", "model", "fine_tuned_model", "training_file", "validation_file", "metadata")
# By the name of the SDK's class.
KINDS = {
    "FineTuningJob": Kind("a job", Job, JOB),
    "FineTuningJobEvent": Kind("an event", Event),
    "FineTuningJobCheckpoint": Kind("a checkpoint", Checkpoint, ("fine_tuned_model_checkpoint", "step_number")),
    "FileObject": Kind("a file", File, ("id", "filename", "bytes", "status")),
    "Upload": Kind("an upload", Upload, ("id", "file")),
    "UploadPart": Kind("a part of an upload", Object, ("id",)),
    "Model": Kind("a model", Model, ("id",)),
    "Batch": Kind("a batch", Batch, ("id", "status", "metadata", "output_file_id", "error_file_id")),
}
PAGE = Kind("a list", Page)
AZURE_DEPLOYMENT = Kind("a deployment", AzureDeployment, ("properties",))
NEBIUS_MODEL = Kind("a deployment", NebiusModel, ("status",))


def check_types(answer: Any) -> None:
    """Check an object of the SDK, or all rows of a page; what can be left out is None then, and a warning says so.

    Raises WrongAnswerError where a field has a wrong type that is needed.
    """
    from openai.pagination import SyncCursorPage, SyncPage
    from pydantic import BaseModel

    rows = [answer]
    if isinstance(answer, (SyncCursorPage, SyncPage)):
        # Without rows that are null: the SDK takes a list for ended where its last row has no ID.
        rows = answer.data = [row for row in answer.data or [] if row is not None]
        if not all(isinstance(row, BaseModel) for row in rows):
            raise WrongAnswerError("A list of the provider has a row that is no object.")
        check_fields(answer, {"has_more": getattr(answer, "has_more", None)}, PAGE)
    for row in rows:
        if kind := KINDS.get(type(row).__name__):
            check_fields(row, row.model_dump(warnings=False), kind)
