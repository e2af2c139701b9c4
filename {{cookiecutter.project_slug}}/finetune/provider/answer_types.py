"""The types of the provider's objects. The SDK makes an object of any answer, whatever types its fields have.

A field that the work can do without is left out where its type is wrong, and a warning says so. Without one of the
others - which job it is, whose, what has become of it - nothing could be decided, so the whole answer is refused.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from typing_extensions import Required, TypedDict  # pydantic asks for this one before Python 3.12

from finetune.core.damage import checker, warn_once
from finetune.provider.answer_checks import WrongAnswerError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Id = Annotated[str, Field(min_length=1)]
Count = Annotated[float, Field(ge=0, lt=1e15, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, lt=10**15)]
Time = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]  # seconds since 1970; milliseconds are no such time


class JobNeeds(TypedDict, total=False):
    id: Required[Id]
    status: Required[str]
    model: str | None
    fine_tuned_model: str | None
    training_file: str | None
    validation_file: str | None
    metadata: dict[str, Any] | None


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


class JobFailure(TypedDict, total=False):
    code: str | None
    message: str | None
    param: str | None


class JobExtras(TypedDict, total=False):
    created_at: Time | None
    finished_at: Time | None
    trained_tokens: Tokens | None
    seed: int | None
    suffix: str | None
    hyperparameters: Hyperparameters | None
    method: Method | None
    error: JobFailure | None
    result_files: list[str] | None
    integrations: list[Any] | None
    estimated_finish: Time | None


class EventExtras(TypedDict, total=False):
    id: Id | None
    created_at: Time | None
    level: str | None
    message: str | None
    type: str | None


class CheckpointNeeds(TypedDict, total=False):
    fine_tuned_model_checkpoint: Required[Id]
    step_number: Required[Count]


class Metrics(TypedDict, total=False):
    step: Count | None
    train_loss: float | None  # may be NaN, which says that the training has diverged
    valid_loss: float | None
    full_valid_loss: float | None
    train_mean_token_accuracy: float | None
    valid_mean_token_accuracy: float | None
    full_valid_mean_token_accuracy: float | None


class CheckpointExtras(TypedDict, total=False):
    id: Id | None
    created_at: Time | None
    metrics: Metrics | None
    result_files: list[str] | None


class FileNeeds(TypedDict, total=False):
    id: Required[Id]
    filename: str | None
    bytes: Count | None
    status: str | None


class FileExtras(TypedDict, total=False):
    created_at: Time | None
    purpose: str | None
    status_details: str | None


class ModelNeeds(TypedDict, total=False):
    id: Required[Id]


class ModelExtras(TypedDict, total=False):
    created: Time | None


left_out: dict[str, list[str]] = {}  # by the object's ID: fields that its newest answer has with a wrong type

# By the name of the SDK's class: how messages call it, and the types of its fields.
TYPES: dict[str, tuple[str, Any, Any]] = {
    "FineTuningJob": ("job", JobNeeds, JobExtras),
    "FineTuningJobEvent": ("event", dict[str, Any], EventExtras),
    "FineTuningJobCheckpoint": ("checkpoint", CheckpointNeeds, CheckpointExtras),
    "FileObject": ("file", FileNeeds, FileExtras),
    "Model": ("model", ModelNeeds, ModelExtras),
}


def check_types(answer: object) -> None:
    """Check an object of the SDK, or all rows of a page; what can be left out is None then, and a warning says so.

    Raises WrongAnswerError where a field has a wrong type that is needed.
    """
    from openai.pagination import SyncCursorPage, SyncPage
    from pydantic import BaseModel

    if not isinstance(answer, (SyncCursorPage, SyncPage)):
        rows: Sequence[Any] = [answer]
    else:
        rows = [row for row in answer.data or [] if row is not None]
        if not all(isinstance(row, BaseModel) for row in rows):
            raise WrongAnswerError("A list of the provider has a row that is no object.")
    for row in rows:
        if type(row).__name__ in TYPES:
            check_object(row)


def check_object(row: Any) -> None:
    """Check the fields of one object. Raises WrongAnswerError as `check_types`."""
    kind, needs, extras = TYPES[type(row).__name__]
    fields = row.model_dump(warnings=False)
    if faults := faults_of(fields, needs):
        place = f"{kind} {row.id}" if isinstance(row.id, str) else kind
        raise WrongAnswerError(f"The provider's answer about a {place} is damaged: {words_of(faults[0])}.")
    if isinstance(row.id, str):
        left_out.pop(row.id, None)
    for fault in faults_of(fields, extras):
        if isinstance(row.id, str):
            left_out.setdefault(row.id, []).append(".".join(map(str, fault["loc"])))
        warn_once(f"A {kind} of the provider has a damaged field, which is left out: {words_of(fault)}.")
        leave_out(row, fault["loc"])


def faults_of(fields: dict[str, Any], kind: Any) -> "list[ErrorDetails]":
    """Return what pydantic finds wrong with the fields of an object. Fields may be missing where the type says so."""
    from pydantic import ValidationError

    try:
        checker(kind).validate_python(fields, strict=True)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False)
    return []


def words_of(fault: "ErrorDetails") -> str:
    """Return which field is wrong, and why. The value is not quoted: it may be personal data."""
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def leave_out(row: Any, path: Sequence[int | str]) -> None:
    """Set the field at a path to None, or the part of the object that has it."""
    from pydantic import BaseModel

    *parents, name = path
    for parent in parents:
        inner = getattr(row, str(parent), None)
        if not isinstance(inner, BaseModel):
            name = parent
            break
        row = inner
    setattr(row, str(name), None)
