"""The JSON bodies of requests. That of chat completions is in `inference/chat_request.py`: batches need it too."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from finetune.engine.api_errors import ApiError
from finetune.engine.request_body import NO_NUL, Metadata, RequestBody, parse_body
from finetune.engine.training.hyperparameters import LIMITS
from finetune.engine.uploads import MAX_FILENAME, MAX_UPLOAD, Purpose


class ExpiresAfter(RequestBody):
    """When a file expires. These are the bounds of OpenAI's API: an hour and 30 days."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


def seconds_of(expires_after: ExpiresAfter | None) -> int | None:
    """Return the seconds until a file expires; None if it does not."""
    return expires_after.seconds if expires_after else None


class FileForm(RequestBody):
    """`POST /v1/files`: the fields of the form. `file` is the name of the file."""

    purpose: Purpose
    file: str = Field(
        max_length=MAX_FILENAME, pattern=NO_NUL, description=f"named by up to {MAX_FILENAME} characters without NUL"
    )
    expires_after: ExpiresAfter | None = None


class PartForm(RequestBody):
    """`POST /v1/uploads/{id}/parts`: the form's only field, which is the file of the part."""

    data: str


class UploadRequest(RequestBody):
    """`POST /v1/uploads`."""

    filename: str = Field(
        max_length=MAX_FILENAME, pattern=NO_NUL, description=f"a text of up to {MAX_FILENAME} characters without NUL"
    )
    mime_type: str
    purpose: Purpose
    bytes: int = Field(ge=1, le=MAX_UPLOAD)
    expires_after: ExpiresAfter | None = None


class CompleteUploadRequest(RequestBody):
    """`POST /v1/uploads/{id}/complete`."""

    part_ids: list[str] = Field(description="an array of the IDs of parts")
    md5: str | None = None


Share = Literal["auto"] | Annotated[int | float, Field(ge=0, lt=1)]


class AskedHyperparameters(RequestBody):
    """The hyperparameters of a job, each a value or `auto`. Those after the first three are this server's own."""

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
    learning_rate: Literal["auto"] | Annotated[int | float, Field(gt=0, le=LIMITS["learning_rate"])] = Field(
        "auto", description=f'"auto" or a number above 0 and up to {LIMITS["learning_rate"]}'
    )
    weight_decay: Share = Field("auto", description='"auto" or a number from 0 to below 1')
    warmup_ratio: Share = Field("auto", description='"auto" or a number from 0 to below 1')
    lora_r: Literal["auto"] | Annotated[int, Field(gt=0, le=LIMITS["lora_r"])] = Field(
        "auto", description=f'"auto" or an integer from 1 to {LIMITS["lora_r"]}'
    )
    lora_alpha: Literal["auto"] | Annotated[int, Field(gt=0, le=LIMITS["lora_alpha"])] = Field(
        "auto", description=f'"auto" or an integer from 1 to {LIMITS["lora_alpha"]}'
    )
    lora_layers: Literal["auto", "all"] | Annotated[int, Field(gt=0)] = Field(
        "auto", description='"auto", "all" or the number of layers from the top'
    )
    lora_dropout: Share = Field("auto", description='"auto" or a number from 0 to below 1')
    max_length: Literal["auto"] | Annotated[int, Field(gt=0)] = Field(
        "auto", description='"auto" or a number of tokens above 0'
    )
    quantize: Literal["auto", "4bit"] = Field("auto", description='"auto" or "4bit"')
    gradient_checkpointing: Literal["auto"] | bool = Field("auto", description='"auto", true or false')


class AskedDpoHyperparameters(AskedHyperparameters):
    """The hyperparameters of a job that trains on preferences."""

    beta: Literal["auto"] | Annotated[int | float, Field(gt=0, le=LIMITS["beta"])] = Field(
        "auto", description=f'"auto" or a number above 0 and up to {LIMITS["beta"]}'
    )


class MethodSettings(RequestBody):
    """The settings of a training method."""

    hyperparameters: dict[str, Any] | None = None


class Method(RequestBody):
    """The training method."""

    type: Literal["supervised", "dpo"]
    supervised: MethodSettings | None = None
    dpo: MethodSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def leave_out_nulls(cls, body: object) -> object:
        """Leave out the settings of other methods where they are null, as some clients send them."""
        if not isinstance(body, dict):
            return body
        if body.get("type") == "reinforcement":
            raise ValueError("must not be of the type 'reinforcement': this server trains by 'supervised' and 'dpo'")
        return {key: value for key, value in body.items() if value is not None or key != "reinforcement"}

    @property
    def settings(self) -> MethodSettings | None:
        return self.dpo if self.type == "dpo" else self.supervised


class WandbSettings(RequestBody):
    """Where the metrics of a job go at Weights & Biases, whose limit for a tag is 64 characters."""

    project: str = Field(min_length=1, pattern=NO_NUL)
    name: str | None = Field(None, pattern=NO_NUL)
    entity: str | None = Field(None, pattern=NO_NUL)
    tags: list[Annotated[str, Field(min_length=1, max_length=64, pattern=NO_NUL)]] | None = None


class Integration(RequestBody):
    """A service that gets the metrics of a job."""

    type: Literal["wandb"]
    wandb: WandbSettings


class JobRequest(RequestBody):
    """`POST /v1/fine_tuning/jobs`."""

    unknown_code: ClassVar[str] = "unknown_parameter"
    codes: ClassVar[dict[str, str]] = {
        "model": "model_not_found",
        "training_file": "invalid_file",
        "validation_file": "invalid_file",
        "method": "unsupported_value",
    }

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = Field(
        None, min_length=1, max_length=64, pattern=NO_NUL, description="a text of 1 to 64 characters without NUL"
    )
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    metadata: Metadata | None = None
    integrations: list[Integration] | None = Field(None, max_length=5)
    method: Method | None = None
    hyperparameters: dict[str, Any] | None = None

    def asked_hyperparameters(self) -> AskedHyperparameters:
        """Return the hyperparameters of the method, else those beside it, which is OpenAI's older form.

        Raises ApiError if one of them is wrong, if the two forms differ, or if they name the learning rate twice.
        """
        method: str = self.method.type if self.method else "supervised"
        kind = AskedDpoHyperparameters if method == "dpo" else AskedHyperparameters
        other = self.method and (self.method.supervised if method == "dpo" else self.method.dpo)
        if other:
            name = "supervised" if method == "dpo" else "dpo"
            what = f"'method.{name}' is there, but 'method.type' is {method!r}. Send the settings of that method."
            raise ApiError(400, what, "invalid_value", f"method.{name}")
        of_method = self.method and self.method.settings and self.method.settings.hyperparameters
        forms = [parse_body(kind, form, "hyperparameters") for form in (of_method, self.hyperparameters) if form]
        if len(forms) == 2 and forms[0] != forms[1]:
            what = f"'hyperparameters' and 'method.{method}.hyperparameters' differ. Send one of them."
            raise ApiError(400, what, "invalid_value", "hyperparameters")
        found = forms[0] if forms else parse_body(kind, {}, "hyperparameters")
        if "auto" not in (found.learning_rate, found.learning_rate_multiplier):
            what = "'learning_rate' and 'learning_rate_multiplier' are two ways to say the same. Send one of them."
            raise ApiError(400, what, "invalid_value", "hyperparameters")
        return found


class BatchRequest(RequestBody):
    """`POST /v1/batches`."""

    codes: ClassVar[dict[str, str]] = {"input_file_id": "invalid_file"}

    endpoint: Literal["/v1/chat/completions", "/v1/completions"]
    completion_window: Literal["24h"]
    input_file_id: str
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class PermissionRequest(RequestBody):
    """`POST /v1/fine_tuning/checkpoints/{checkpoint}/permissions`."""

    project_ids: list[Annotated[str, Field(min_length=1, max_length=256, pattern=NO_NUL)]] = Field(
        min_length=1, max_length=1000, description="an array of 1 to 1000 IDs of projects"
    )


class TokenizeRequest(RequestBody):
    """`POST /tokenize`, in vLLM's form: OpenAI's API has no such request."""

    model: str
    prompt: str
    add_special_tokens: bool = True


class AdapterRequest(RequestBody):
    """`POST /v1/load_lora_adapter`, in vLLM's form: OpenAI's API has no such request.

    `base_model_name` is the base where the adapter's own file names it otherwise, as in vLLM's `--lora-modules`.
    """

    lora_name: Annotated[str, Field(min_length=1, max_length=256, pattern=NO_NUL)]
    lora_path: Annotated[str, Field(min_length=1, pattern=NO_NUL)]
    base_model_name: str | None = None
