"""The types of what was uploaded, trained and deployed."""

from typing import Any

from typing_extensions import NotRequired, TypedDict

from finetune.core.records.costs import Usd


class UploadedFile(TypedDict):
    id: str
    sha256: str
    replay: NotRequired[int]  # how many of its rows are those of train.replay


FilesRecord = dict[str, UploadedFile]  # models/files.json, by split: train, valid


class CheckpointRecord(TypedDict, total=False):
    """One checkpoint of a job: its metrics are those that the provider measured."""

    model: str
    step: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float
    valid_mean_token_accuracy: float
    full_valid_loss: float
    full_valid_mean_token_accuracy: float


class ChosenCheckpoint(TypedDict):
    by: str  # train.choose
    step: int | None
    why: str


class CurveFacts(TypedDict):
    """What the curves of a training show, and the last value of each."""

    verdict: str  # improving, converged, overfitting, diverging, cannot tell; unknown: no curve
    verdict_step: int | None
    verdict_words: str
    next_n_epochs: int | None
    train_loss: float | None
    train_accuracy: float | None
    valid_loss: float | None
    valid_accuracy: float | None
    missing: NotRequired[list[str]]  # what the provider did not have when the record was made, and why


class ModelRecord(CurveFacts):
    """models/model.json: the fine-tune of this commit."""

    provider: str
    base: str
    lineage: list[str]  # fine-tuned models that it was trained from, the first one first
    method: str
    model: str  # the chosen model's ID
    model_of_last_step: str | None
    chosen: ChosenCheckpoint
    chosen_valid_loss: NotRequired[float | None]  # of the chosen checkpoint, over the validation file if it is known
    chosen_valid_score: NotRequired[float | None]  # of its answers to the validation split, with choose: best_metric
    job: str
    fingerprint: str  # SHA-256 of data, base, method, hyperparameters as asked, seed and suffix
    seed: int | None
    suffix: str | None
    prompt: str | None  # SHA-256 of data.prompt
    hyperparameters: dict[str, Any]  # as trained: `auto` has become a number
    trained_tokens: int | None
    usd: Usd
    checkpoints: list[CheckpointRecord]


class DeploymentRecord(TypedDict):
    """models/deployment.json: the name to ask a deployed model by."""

    provider: str
    model: str
    name: str
    source: NotRequired[str]  # what was deployed: a checkpoint's ID at Azure, the job's and a checkpoint's at Nebius
